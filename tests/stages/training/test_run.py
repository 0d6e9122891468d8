"""Training learns, is reproducible, survives a kill, and reports divergence."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.tasks.classification.text import TEXT_CLASSIFICATION
from rarefy.pipeline.tasks.embeddings.task import SENTENCE_EMBEDDINGS
from rarefy.pipeline.tasks.regression.task import REGRESSION
from rarefy.pipeline.tasks.token_classification.task import TOKEN_CLASSIFICATION
from rarefy.pipeline.terms.errors import ModelError
from rarefy.stages.finetune import Finetune
from rarefy.stages.training import loop as trainer
from rarefy.stages.training import run as training
from rarefy.stages.training.rows import Rows
from tests.breadth import broad
from tests.families import FAMILIES, write_family
from tests.models import TASK, write_model
from tests.stages.trainings import fit, same_weights


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    tiny_encoder, make_context, tmp_path
):
    one, _ = fit(make_context(work=tmp_path / "a"), tiny_encoder)
    two, _ = fit(make_context(work=tmp_path / "b"), tiny_encoder)
    other, _ = fit(make_context(work=tmp_path / "c", seed=1), tiny_encoder)
    assert same_weights(one, two)
    assert not same_weights(one, other)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant_with_warmup"])
def test_a_single_step_trains(schedule, tiny_encoder, make_context):
    context = make_context(rows=8)
    network, trained = fit(context, tiny_encoder, epochs=1, schedule=schedule)
    assert trained.steps == 1
    training.prepare(context)
    before, _ = training.open_network(context, tiny_encoder)
    change = (network.classifier.weight - before.classifier.weight).abs().max()
    assert 1e-3 < change < 3e-3  # AdamW's first step is as large as its rate, 2e-3


def test_a_checkpoint_with_other_labels_is_refused(tiny_encoder, make_context):
    network = make_context().task.head.load(str(tiny_encoder.directory))
    with pytest.raises(ModelError, match=r"labels are negative, positive, but the data's are a, b"):
        TEXT_CLASSIFICATION.bind(("a", "b"), 8, ("text",)).head.check(network, "finetune")


IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
BART = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_layerdrop": 0.5, **IDS}
BART |= {"attention_dropout": 0.1, "activation_dropout": 0.1}
OTHERS = {
    "bart": BART,
    "xlm": {"emb_dim": 32, "n_layers": 2, "n_heads": 4},
    "flaubert": {"emb_dim": 32, "n_layers": 2, "n_heads": 4, "layerdrop": 0.5},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, **IDS},
}
"""Families that drop by numbers, and GPT-2, which drops by layers."""


def spread(model):
    """Return how much the answers of two passes in training differ."""
    ids = torch.tensor([[2, *range(5, 15), 3]])
    with torch.no_grad():
        one, two = (model.train()(input_ids=ids).logits for _ in range(2))
    return float((one - two).abs().max())


@pytest.mark.parametrize("family", broad(FAMILIES, "bert", "modernbert"))
def test_without_dropout_two_passes_of_a_family_are_equal(tmp_path, family):
    dropping = {"attention_dropout": 0.5}  # what is a number in ModernBERT, Llama and Qwen3
    auto = "AutoModelForSequenceClassification"
    model = write_family(tmp_path, family, auto, layers=2, **dropping)
    assert spread(model) > 0
    training.stop_dropout(model)
    assert spread(model) == 0


@pytest.mark.parametrize("family", OTHERS)
def test_without_dropout_two_passes_of_a_model_that_is_not_described_are_equal(family):
    config = AutoConfig.for_model(family, vocab_size=50, **OTHERS[family])
    model = AutoModelForSequenceClassification.from_config(config)
    assert spread(model) > 0
    training.stop_dropout(model)
    assert spread(model) == 0


def test_a_config_keeps_the_rates_that_training_does_not_use():
    model = AutoModelForSequenceClassification.from_config(
        AutoConfig.for_model("bart", vocab_size=50, **BART)
    )
    training.stop_dropout(model)
    assert model.model.encoder.layers[0].dropout == 0
    assert model.config.dropout == 0.1


def test_a_new_head_is_prepared_for_the_rows_and_the_model_s_own_is_not(tmp_path, make_context):
    context = make_context(task=REGRESSION.bind((), 32, ("text",)))
    bare, headed = tmp_path / "bare", tmp_path / "headed"
    write_model(bare, "bert")
    own = write_model(headed, "bert", "AutoModelForSequenceClassification", ("score",))
    half = torch.tensor([0.5])  # the mean of the context's labels, 0 and 1
    torch.testing.assert_close(training.with_head(context, bare).classifier.bias.data, half)
    assert torch.equal(training.with_head(context, headed).classifier.bias, own.classifier.bias)


def test_a_new_head_is_the_same_whatever_the_seed(tmp_path, make_context):
    """So that the mean of fine-tunes of one model is worth something."""
    write_model(tmp_path, "roberta")
    heads = []
    for seed in (0, 1):
        context = make_context(seed=seed)
        training.prepare(context)
        following = torch.rand(1)
        training.prepare(context)
        heads.append(training.with_head(context, tmp_path).classifier)
        assert torch.equal(torch.rand(1), following), (
            "what is drawn later depends on the seed alone"
        )
    for first, second in zip(*(head.parameters() for head in heads), strict=True):
        assert torch.equal(first, second)


def texts_of(context, encoder, **columns) -> list[str]:
    """Return the texts that a teacher of embeddings is asked for a split."""
    split = Split("train", "train.jsonl", "0" * 64, **({"pairs": None, "labels": None} | columns))
    _, tokenizer = training.open_network(context, encoder)
    rows = training.labelled_rows(context, tokenizer, split, numbered=True)
    assert [row["row"] for row in rows] == list(range(len(rows)))
    return [tokenizer.decode(row["input_ids"], skip_special_tokens=True) for row in rows]


def test_equal_texts_are_embedded_once_unless_they_have_targets(
    tiny_encoder, make_context, monkeypatch
):
    monkeypatch.setattr(training, "CHUNK", 2)
    context = make_context(task=SENTENCE_EMBEDDINGS.bind((), 32, ("query", "document")))
    columns = {"texts": ["warm", "warm", "dull", "warm"], "pairs": ["fine", "film", "fine", "warm"]}
    found = texts_of(context, tiny_encoder, **columns, negatives=[("dull",), (), ("actor",), ()])
    assert sorted(found) == ["actor", "dull", "film", "fine", "warm"]
    assert len(texts_of(context, tiny_encoder, **columns, labels=[0.0, 1.0, 2.0, 3.0])) == 8
    plain = make_context(rows=2)
    repeated = ["warm", "warm"]
    assert texts_of(plain, tiny_encoder, texts=repeated) == repeated


def test_a_loss_is_judged_by_words_if_words_are_the_units(tiny_encoder, make_context):
    """Two texts of a word and one of eight, of which seven are read; all tags are 1."""
    task = TOKEN_CLASSIFICATION.bind(("O", "B-GOOD"), 9, ("text",))
    texts = ["fine", "fine", " ".join(["dull"] * 8)]
    split = Split("train", "t", "0" * 64, texts, None, [[1], [1], [1] * 8])
    context = make_context(task=task, splits={"train": split})
    network, tokenizer = training.open_network(context, tiny_encoder)
    rows = training.labelled_rows(context, tokenizer, split)

    def loss(_, batch):
        """Return the mean over words, which is 1 for those of the long text."""
        return torch.tensor(float(batch["labels"].shape[1] > 1))

    judge = trainer.mean_loss(context, tokenizer, rows, loss, 2)
    assert judge(network) == pytest.approx(7 / 9)


def test_a_loss_is_judged_with_the_rows_of_a_group_together(tiny_encoder, make_context):
    """Eight groups of a short and three long texts: by length, no short one meets its own."""
    rows = Rows(make_context().work)
    sizes = [2] * 8 + [6] * 24
    rows.extend({"input_ids": [5] * size, "group": at % 8} for at, size in enumerate(sizes))
    met = []

    def loss(_, batch):
        met.extend(batch["group"].tolist().count(group) for group in batch["group"].unique())
        return torch.tensor(0.0)

    tokenizer = checkpoint.load_tokenizer(tiny_encoder.directory)
    trainer.mean_loss(make_context(), tokenizer, rows, loss, 4)(None)
    assert met == [4] * 8


def trained_twice(context, encoder, epochs=1, **options):
    """Train a network that was trained before; return the types of its body's outputs."""
    training.prepare(context)
    network, tokenizer = training.open_network(context, encoder)
    rows = training.labelled_rows(context, tokenizer, context.split("train"))
    stage = Finetune(epochs=epochs, batch_size=8)
    seen = []
    layer = network.base_model.encoder.layer[0].output.dense
    layer.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    for name in ("first", "second"):
        training.train(
            context,
            stage,
            network,
            tokenizer,
            rows,
            TASK.objective.training_loss(),
            name=name,
            **options,
        )
    return seen


def test_a_network_that_was_trained_before_is_in_bf16_again(
    tiny_encoder, make_context, monkeypatch
):
    """Such as one that is pruned in rounds."""
    monkeypatch.setattr(trainer, "cpu_has_bf16", lambda: True)
    assert trained_twice(make_context(rows=8), tiny_encoder) == [torch.bfloat16] * 2


def test_an_average_is_judged_in_the_precision_of_the_epochs(
    tiny_encoder, make_context, monkeypatch
):
    """The network in bf16, its loss not; also where training had ended before."""
    monkeypatch.setattr(trainer, "cpu_has_bf16", lambda: True)
    seen = []

    def judged(losses):
        given = iter(losses)

        def judge(network):
            outputs = network.base_model.encoder.layer[0].output.dense.register_forward_hook(
                lambda _, __, output: seen.append(output.dtype)
            )
            network(input_ids=torch.tensor([[2, 5, 3]]))
            outputs.remove()
            seen.append((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
            return next(given)

        context = make_context(rows=16)
        training.prepare(context)
        network, tokenizer = training.open_network(context, tiny_encoder)
        rows = training.labelled_rows(context, tokenizer, context.split("train"))
        stage = Finetune(epochs=5, batch_size=8)
        training.train(
            context,
            stage,
            network,
            tokenizer,
            rows,
            TASK.objective.training_loss(),
            judge=judge,
            patience=1,
        )

    judged([3, 2, 1, 4, 4, 9])
    judged([9])
    assert seen == [torch.bfloat16, torch.float32] * 7
