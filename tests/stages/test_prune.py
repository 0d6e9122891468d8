"""Pruned units are physically removed, and the rest answers like the masked original."""

import gc

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from pipeline.model import checkpoint
from pipeline.stage.split import Split
from pipeline.store.artifact import Kind
from pipeline.terms.errors import ModelError
from stages import surgery, transfer_set
from stages.finetune import Finetune
from stages.prune import Prune
from tests.models import BAD, FILL, GOOD, artifact_of, sentences, write_encoder
from tests.stages.classifiers import PATHS, classifier, masked_logits, one_where


@pytest.fixture
def fresh(tmp_path):
    """A classifier as a checkpoint artifact."""
    tokenizer = checkpoint.load_tokenizer(write_encoder(tmp_path / "encoder"))
    checkpoint.save(classifier("bert"), tokenizer, tmp_path / "model")
    return artifact_of(tmp_path / "model", Kind.CHECKPOINT)


@pytest.mark.parametrize("method", ["fisher", "taylor", "magnitude"])
def test_stage_removes_the_share_and_equals_the_masked_original(fresh, make_context, method):
    context = make_context()
    stage = Prune(heads="25 %", neurons="50 %", method=method, rescale=False)
    draft = stage.run(context, fresh)
    original, pruned = checkpoint.load(fresh.directory), checkpoint.load(context.output)
    assert sum(draft.model["heads"]) == 9
    assert sum(draft.model["intermediate"]) == pytest.approx(96, abs=24)
    assert all(count % 16 == 0 for count in draft.model["intermediate"])
    assert draft.model["parameters"] < checkpoint.describe(original)["parameters"]
    masks = {}
    layers = zip(original.bert.encoder.layer, pruned.bert.encoder.layer, strict=True)
    for i, (old, new) in enumerate(layers):
        rows, kept = old.intermediate.dense.weight, new.intermediate.dense.weight
        found = [int((rows - row).abs().sum(1).argmin()) for row in kept]
        masks[PATHS["bert"][1].format(i)] = one_where(found, 64)
        rows, kept = old.attention.self.query.weight, new.attention.self.query.weight
        found = [int((rows - row).abs().sum(1).argmin()) for row in kept]
        masks[PATHS["bert"][0].format(i)] = one_where(found, 32)
    expected = masked_logits(original, masks)
    torch.testing.assert_close(masked_logits(pruned, {}), expected, atol=1e-4, rtol=0)


def test_same_seed_same_bytes(fresh, make_context):
    outputs = []
    for _ in range(2):
        context = make_context()
        Prune(heads=0.25, neurons=0.5, layers=0.34, vocabulary=True).run(context, fresh)
        outputs.append({p.name: p.read_bytes() for p in sorted(context.output.iterdir())})
    assert outputs[0] == outputs[1]
    assert "shapes.json" in outputs[0]


def test_every_layer_keeps_a_head_and_some_neurons(fresh, make_context):
    draft = Prune(heads=0.95, neurons=0.95).run(make_context(), fresh)
    assert draft.model["heads"] == [1, 1, 1]
    assert draft.model["intermediate"] == [16, 16, 16]


def test_layers_by_index_and_by_importance(fresh, make_context):
    context = make_context()
    Prune(layers=[1]).run(context, fresh)
    original = checkpoint.load(fresh.directory)
    with surgery.skipped([original.bert.encoder.layer[1]]):
        expected = masked_logits(original, {})
    torch.testing.assert_close(masked_logits(checkpoint.load(context.output), {}), expected)
    for wrong in ([3], [0, 1, 2]):
        with pytest.raises(ModelError, match=r"prune\.layers"):
            Prune(layers=wrong).run(make_context(), fresh)


def test_nothing_to_remove_is_refused():
    with pytest.raises(ValueError, match="nothing to remove"):
        Prune()
    with pytest.raises(ValueError, match="less than or equal"):
        Prune(heads="99 %")


def test_rescaling_needs_no_more_memory_for_more_rows(fresh, make_context):
    """Count the tensors alive at each forward pass, without those from before the run."""

    def peak(rows: int) -> int:
        text = " ".join((*FILL[:6], *GOOD[:2]))  # rows of one length, so batches have 32 rows
        split = Split(
            "train", "t.jsonl", "0" * 64, [text] * rows, None, [n % 2 for n in range(rows)]
        )
        context, most = make_context(splits={"train": split}), 0

        def watch(module, given):
            nonlocal most
            if isinstance(module, torch.nn.Embedding):
                held = [o for o in gc.get_objects() if isinstance(o, torch.Tensor)]
                alive = {t.data_ptr(): t.nbytes for t in held if t.is_floating_point()}
                most = max(most, sum(alive.values()))

        gc.collect()
        gc.freeze()
        try:
            with torch.nn.modules.module.register_module_forward_pre_hook(watch):
                Prune(heads=0.25, neurons=0.5).run(context, fresh)
        finally:
            gc.unfreeze()
        return most

    assert peak(256) <= 1.05 * peak(64)


def test_recovery_trains_without_dropout_and_leaves_the_config_as_it_is(fresh, make_context):
    """The soft answers of the unpruned model regularize enough, as in distillation."""
    seen = set()

    def watch(module, given, answer):
        if isinstance(module, torch.nn.Dropout) and module.training:
            seen.add(module.p)

    context = make_context(rows=16)
    with torch.nn.modules.module.register_module_forward_hook(watch):
        Prune(layers=[0], recover_epochs=1).run(context, fresh)
    assert seen == {0}
    assert checkpoint.load(context.output).config.hidden_dropout_prob == 0.1


@pytest.mark.slow
def test_recovery_brings_the_answers_back(tiny_encoder, make_context, tmp_path):
    tuned = make_context(rows=256, work=tmp_path / "tuned")
    Finetune(learning_rate=2e-3, epochs=6, batch_size=16).run(tuned, tiny_encoder)
    trained = artifact_of(tuned.output, Kind.CHECKPOINT)
    losses = {}
    for epochs in (0, 3):
        context = make_context(rows=128)
        Prune(layers=[0, 1], recover_epochs=epochs, learning_rate=2e-3).run(context, trained)
        original, pruned = checkpoint.load(trained.directory), checkpoint.load(context.output)
        tokenizer = checkpoint.load_tokenizer(context.output)
        words = tokenizer([" ".join((*FILL[:5], w)) for w in (*GOOD, *BAD)], return_tensors="pt")
        with torch.no_grad():
            own, theirs = pruned(**words).logits, original(**words).logits
        losses[epochs] = float(
            functional.kl_div(own.log_softmax(-1), theirs.softmax(-1), reduction="batchmean")
        )
    assert losses[3] < losses[0] / 2


def test_rare_tokens_are_spelled_from_others(tuned, make_context):
    sizes = {}
    for least in (1, 30):
        context = make_context(rows=64)
        Prune(vocabulary=True, least_count=least).run(context, tuned)
        tokenizer = checkpoint.load_tokenizer(context.output)
        sizes[least] = len(tokenizer)
        assert checkpoint.load(context.output).get_input_embeddings().num_embeddings == sizes[least]
    assert sizes[30] < sizes[1]


def test_a_least_count_is_one_of_tokens():
    with pytest.raises(ValidationError, match="'least_count' is of 'vocabulary: true'"):
        Prune(heads=0.5, least_count=2)


def test_rounds_remove_in_steps_what_one_round_removes_and_recover_between(tuned, make_context):
    counts = {}
    for rounds in (1, 3):
        context = make_context(rows=64, work=make_context().base / str(rounds))
        stage = Prune(neurons=0.5, heads=0.5, rounds=rounds, recover_epochs=1, calibration_rows=32)
        draft = stage.run(context, tuned)
        counts[rounds] = draft.model["parameters"]
        losses = {metric.name for metric in draft.metrics if metric.name.startswith("recovery")}
    assert losses == {"recovery_loss", "recovery_2_loss", "recovery_3_loss"}
    assert counts[3] == pytest.approx(counts[1], rel=0.1)


def test_a_transfer_set_adds_texts_to_recovery(tuned, make_context, tmp_path):
    directory = tmp_path / "texts"
    directory.mkdir()
    transfer_set.write(directory, ((text, None) for text in sentences(40, seed=9)[0]))
    texts = artifact_of(directory, Kind.TRANSFER_SET)
    context = make_context(rows=64, artifacts={"texts": texts})
    seen = []
    context.progress = lambda done, total, note: seen.append((total, note))
    stage = Prune(neurons=0.5, recover_epochs=1, transfer="texts", calibration_rows=32)
    assert stage.references() == {"transfer": "texts"}
    stage.run(context, tuned)
    assert (104, "teacher answers") in seen


@pytest.mark.parametrize("parameters", [{"rounds": 2}, {"transfer": "texts"}])
def test_rounds_and_texts_are_for_recovery(parameters):
    with pytest.raises(ValidationError, match="give 'recover_epochs'"):
        Prune(neurons=0.5, **parameters)


def test_a_share_of_the_multiply_adds_goes_from_heads_and_neurons(tuned, make_context):
    context = make_context(rows=64)
    draft = Prune(macs=0.4, calibration_rows=32).run(context, tuned)
    whole, small = (
        sum(
            4 * 8 * 32 * h + 2 * 32 * n
            for h, n in zip(told["heads"], told["intermediate"], strict=True)
        )
        for told in (checkpoint.describe(checkpoint.load(tuned.directory)), draft.model)
    )
    assert 0.5 <= small / whole <= 0.6


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"macs": 0.5, "heads": 0.5}, "'macs' decides itself"),
        ({"macs": 0.5, "speedup": 2, "table": "x"}, "either 'speedup' or 'macs'"),
    ],
)
def test_one_target_at_a_time(parameters, message):
    with pytest.raises(ValidationError, match=message):
        Prune(**parameters)
