"""Text classification: rows, metrics, and the classifier that is built on a body."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.model import checkpoint
from pipeline.stage.tasks.text_classification import TEXT_CLASSIFICATION
from pipeline.terms.errors import IntegrityError, ModelError
from tests.models import KINDS, LABELS, rename_weights, write_model

TASK = TEXT_CLASSIFICATION.bind(LABELS, 6, ("text",))
OTHER = ("spam", "ham")
HEADS = {  # the linear layers of each head, from transformers' modelling source
    "bert": ("classifier",),
    "roberta": ("classifier.dense", "classifier.out_proj"),
    "electra": ("classifier.dense", "classifier.out_proj"),
    "distilbert": ("pre_classifier", "classifier"),
    "mpnet": ("classifier.dense", "classifier.out_proj"),
}
IDS = torch.tensor([[2, 8, 9, 20, 11, 3]])


def load(directory: Path, labels: tuple[str, ...] = LABELS) -> Any:
    torch.manual_seed(0)
    return TEXT_CLASSIFICATION.bind(labels, 32, ("text",)).head.load(str(directory))


def same_body(one: Any, other: Any) -> bool:
    """Return True if two models have equal weights, apart from heads and poolers."""
    was, now = (
        {k: v for k, v in model.base_model.state_dict().items() if not k.startswith("pooler")}
        for model in (one, other)
    )
    return list(was) == list(now) and all(torch.equal(was[name], now[name]) for name in was)


def head(model: Any, kind: str) -> list[nn.Linear]:
    return [model.get_submodule(name) for name in HEADS[kind]]


def is_fresh(layer: nn.Linear) -> bool:
    """Weights are drawn from N(0, 0.02) and biases are zero, as in all heads of transformers."""
    return (
        float(layer.bias.detach().abs().max()) == 0
        and float(layer.weight.detach().abs().max()) < 0.12
    )


def test_accuracy_and_macro_f1_by_hand():
    """Six rows: two hits and one miss in each of the two classes."""
    answers = np.array([[0.9, 0.1]] * 2 + [[0.1, 0.9]] * 3 + [[0.9, 0.1]])
    truth = np.array([0, 0, 0, 1, 1, 1])
    once = np.ones((1, len(truth)))
    found = {
        name: float(score(answers, truth)(once)[0]) for name, score in TASK.scorer.scores.items()
    }
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["macro_f1"] == pytest.approx(2 * 2 / (2 * 2 + 2))
    assert found["ece"] == pytest.approx(0.9 - 4 / 6)


def test_a_label_is_missed_for_the_most_frequent_other_one():
    truth = [1, 2, 1, 1, 0, 2]
    rows, changed = TASK.scorer.missed_labels(np.eye(3)[[1, 2, 1, 1, 1, 2]], truth)
    assert rows.tolist() == [0, 1], "the first label is found nowhere"
    assert changed.argmax(axis=1).tolist() == [2, 1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("auto", ["AutoModel", "AutoModelForMaskedLM", "AutoModelForPreTraining"])
def test_an_encoder_gets_a_fresh_head(tmp_path, kind, auto):
    network = write_model(tmp_path, kind, auto)
    model = load(tmp_path)
    assert same_body(network, model)
    assert all(is_fresh(layer) for layer in head(model, kind))
    assert [model.config.id2label[at] for at in range(2)] == list(LABELS)
    assert model.config.label2id == {"negative": 0, "positive": 1}
    assert model(input_ids=IDS).logits.shape == (1, 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labels", [OTHER, ("a", "b", "c"), ("positive", "negative")])
def test_a_head_for_other_labels_is_replaced_as_a_whole(tmp_path, kind, labels):
    network = write_model(tmp_path, kind, "AutoModelForSequenceClassification", labels)
    model = load(tmp_path)
    assert same_body(network, model)
    assert all(is_fresh(layer) for layer in head(model, kind))
    assert model.config.num_labels == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_for_these_labels_is_kept(tmp_path, kind):
    network = write_model(tmp_path, kind, "AutoModelForSequenceClassification", LABELS)
    with torch.no_grad():
        torch.testing.assert_close(load(tmp_path)(IDS).logits, network(IDS).logits)


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_labels_as_the_body_is_wide(tmp_path, kind):
    """Layers of the body with as many outputs as the head must keep their weights."""
    network = write_model(tmp_path, kind)
    model = load(tmp_path, tuple(f"label {at}" for at in range(16)))
    assert same_body(network, model)
    assert all(is_fresh(layer) for layer in head(model, kind))


@pytest.mark.parametrize("auto", ["AutoModel", "AutoModelForPreTraining"])
def test_bert_s_pooler_is_kept_if_it_is_there(tmp_path, auto):
    network = write_model(tmp_path, "bert", auto)
    pooler = load(tmp_path).bert.pooler.dense
    assert torch.equal(pooler.weight, network.base_model.pooler.dense.weight)


def test_bert_s_pooler_is_drawn_with_the_head_if_it_is_not(tmp_path):
    write_model(tmp_path, "bert", "AutoModelForMaskedLM")
    model = load(tmp_path)
    assert is_fresh(model.bert.pooler.dense)
    assert not torch.equal(model.bert.pooler.dense.weight[:2], model.classifier.weight), (
        "both are drawn"
    )


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_the_head_is_drawn_as_transformers_draws_it(tmp_path, kind):
    """The same seed gives the same head as the library itself."""
    import transformers

    write_model(tmp_path, kind)
    model = load(tmp_path)
    torch.manual_seed(0)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    for ours, reference in zip(head(model, kind), head(theirs, kind), strict=True):
        assert torch.equal(ours.weight, reference.weight)


@pytest.mark.parametrize("labels", [None, OTHER])
def test_a_pruned_and_factorized_body_keeps_its_shapes_and_weights(tmp_path, labels):
    auto = "AutoModelForSequenceClassification" if labels else "AutoModel"
    network = write_model(tmp_path, "roberta", auto, labels or ())
    first, second = checkpoint.encoder_layers(network)
    first.intermediate.dense, first.output.dense = nn.Linear(16, 12), nn.Linear(12, 16)
    second.intermediate.dense = checkpoint.factorized(16, 3, 32, bias=True)
    tokenizer = checkpoint.load_tokenizer(tmp_path)
    shutil.rmtree(tmp_path)
    checkpoint.save(network, tokenizer, tmp_path)
    model = load(tmp_path)
    assert same_body(network, model)
    assert all(is_fresh(layer) for layer in head(model, "roberta"))
    checkpoint.save(model, tokenizer, tmp_path / "again")
    again = checkpoint.load(tmp_path / "again")
    with torch.no_grad():
        torch.testing.assert_close(again(IDS).logits, model(IDS).logits)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_built_is_saved_loaded_and_trained(tmp_path, kind):
    write_model(tmp_path, kind, "AutoModelForMaskedLM")
    model = load(tmp_path)
    checkpoint.save(model, checkpoint.load_tokenizer(tmp_path), tmp_path / "ours")
    again = checkpoint.load(tmp_path / "ours")
    with torch.no_grad():
        torch.testing.assert_close(again(IDS).logits, model(IDS).logits)
    model.set_attn_implementation("eager")
    assert model.base_model.config is model.config, "what is set on one holds for the other"
    model(IDS, labels=torch.tensor([1])).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_missing_layer_is_not_drawn_anew_in_silence(tmp_path):
    write_model(tmp_path, "electra")
    rename_weights(tmp_path, lambda name: "" if "layer.1." in name else name)
    with pytest.raises(ModelError, match=r"missing weight encoder\.layer\.1\."):
        load(tmp_path)


def test_pickled_weights_are_not_read(tmp_path):
    network = write_model(tmp_path, "bert")
    (tmp_path / "model.safetensors").unlink()
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(IntegrityError, match="is a pickle file"):
        load(tmp_path)
