"""Pruned units are physically removed, and the rest answers like the masked original."""

import re
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.store.artifact import Kind, Metric
from rarefy.pipeline.tasks.classification.text import ClassObjective
from rarefy.pipeline.terms.errors import ModelError, RecipeError
from rarefy.stages.prune import Prune
from rarefy.stages.surgery import units as surgery
from rarefy.stages.teachers import recovery
from rarefy.stages.transfer import files as transfer_set
from tests.models import BAD, FILL, GOOD, artifact_of, dropout_rates, sentences
from tests.stages.classifiers import masked_logits


def test_same_seed_same_bytes(fresh, make_context):
    outputs = []
    for _ in range(2):
        context = make_context()
        Prune(remove_heads=0.25, remove_neurons=0.5, remove_layers=0.34, vocabulary=True).run(
            context, fresh
        )
        outputs.append({p.name: p.read_bytes() for p in sorted(context.output.iterdir())})
    assert outputs[0] == outputs[1]
    assert "shapes.json" in outputs[0]


def test_layers_by_index_and_by_importance(fresh, make_context):
    context = make_context()
    Prune(remove_layers=[1]).run(context, fresh)
    original = checkpoint.load(fresh.directory)
    with surgery.skipped([original.bert.encoder.layer[1]]):
        expected = masked_logits(original, {})
    torch.testing.assert_close(masked_logits(checkpoint.load(context.output), {}), expected)
    for wrong in ([3], [0, 1, 2]):
        with pytest.raises(ModelError, match=r"prune\.remove_layers"):
            Prune(remove_layers=wrong).run(make_context(), fresh)


@pytest.mark.parametrize(("share", "depth"), [("10%", 4), ("5%", 6), ("40%", 1)])
def test_a_share_of_less_than_half_a_layer_is_refused(share, depth):
    config = {"model_type": "bert", "num_hidden_layers": depth}
    one = {4: "25%", 6: "17%", 1: "100%"}[depth]
    says = f"prune.remove_layers: {share} of {depth} layers rounds to none; one layer is {one}"
    with pytest.raises(ModelError, match=re.escape(says)):
        Prune(remove_layers=share).follow_model(config, {}, Path())
    if depth > 1:
        assert (
            Prune(remove_layers=one).follow_model(config, {}, Path())["num_hidden_layers"]
            == depth - 1
        )


def test_a_share_that_rounds_to_no_head_is_said(fresh, make_context, caplog):
    Prune(remove_heads="2 %", remove_neurons="50 %").run(make_context(), fresh)
    (said,) = [each.getMessage() for each in caplog.records if "rounds to none" in each.message]
    assert said.startswith("prune.remove_heads: 2% of ")


def test_nothing_to_remove_is_refused():
    with pytest.raises(ValueError, match="nothing to remove"):
        Prune()
    with pytest.raises(ValueError, match="less than or equal"):
        Prune(remove_heads="99 %")


def test_recovery_trains_without_dropout_and_leaves_the_config_as_it_is(fresh, make_context):
    """The soft answers of the unpruned model regularize enough, as in distillation."""
    context = make_context(rows=16)
    with dropout_rates() as rates:
        Prune(remove_layers=[0], recover_epochs=1).run(context, fresh)
    assert rates == {0}
    assert checkpoint.load(context.output).config.hidden_dropout_prob == 0.1


@pytest.mark.slow
def test_recovery_brings_the_answers_back(tuned, make_context):
    losses = {}
    most = {"remove_layers": [0, 1], "remove_heads": 0.75, "remove_neurons": 0.9, "repair": False}
    for epochs in (0, 3):
        context = make_context(rows=128)
        Prune(**most, recover_epochs=epochs, learning_rate=2e-3).run(context, tuned)
        original, pruned = checkpoint.load(tuned.directory), checkpoint.load(context.output)
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
        Prune(vocabulary=True, min_count=least).run(context, tuned)
        tokenizer = checkpoint.load_tokenizer(context.output)
        sizes[least] = len(tokenizer)
        assert checkpoint.load(context.output).get_input_embeddings().num_embeddings == sizes[least]
    assert sizes[30] < sizes[1]


def test_a_least_count_is_one_of_tokens():
    with pytest.raises(ValidationError, match="'min_count' needs 'vocabulary: true'"):
        Prune(remove_heads=0.5, min_count=2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"remove_heads": 0.5, "learning_rate": 1e-3}, "'learning_rate' needs 'recover_epochs'"),
        (
            {"vocabulary": True, "method": "taylor"},
            "'method' needs 'remove_heads', 'remove_neurons', 'speedup',",
        ),
        ({"vocabulary": True, "repair": False}, "'repair' needs .* or 'keep_parameters'"),
        ({"remove_layers": 0.5, "calibration_rows": 64}, "'calibration_rows' needs"),
    ],
)
def test_what_nothing_would_read_is_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        Prune(**given)


def test_a_sweep_may_try_nothing_and_a_recorded_stage_is_read_again():
    Prune(remove_heads=0.5, recover_epochs=0, learning_rate=1e-3)
    Prune(remove_heads=0, vocabulary=True, method="taylor")
    for stage in (Prune(vocabulary=True), Prune(remove_heads=0.5, method="taylor")):
        assert Prune.model_validate(stage.model_dump(mode="json")) == stage


@pytest.mark.slow
def test_rounds_remove_in_steps_what_one_round_removes_and_recover_between(tuned, make_context):
    counts = {}
    for rounds in (1, 3):
        context = make_context(rows=64, work=make_context().base / str(rounds))
        stage = Prune(
            remove_neurons=0.5,
            remove_heads=0.5,
            rounds=rounds,
            recover_epochs=1,
            calibration_rows=32,
        )
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
    stage = Prune(remove_neurons=0.5, recover_epochs=1, transfer="texts", calibration_rows=32)
    assert stage.references() == {"transfer": "texts"}
    stage.run(context, tuned)
    assert (104, "teacher answers") in seen


def test_recovery_learns_unlabelled_text_as_distillation_does(tuned, make_context):
    context = make_context(rows=64)
    texts = sentences(40, seed=9)[0]
    context.splits["unlabelled"] = Split("unlabelled", "", "", texts, None, None)
    seen = set()
    context.progress = lambda done, total, note: seen.add((total, note))
    Prune(remove_neurons=0.5, recover_epochs=1, calibration_rows=16).run(context, tuned)
    assert (104, "teacher answers") in seen


def test_recovery_learns_answers_in_the_width_of_the_network(tuned, make_context, monkeypatch):
    asked = []

    def projection(self, outputs, width):
        asked.append((outputs.shape[1], width))
        return torch.eye(2, dtype=torch.double)

    monkeypatch.setattr(ClassObjective, "projection", projection)
    Prune(remove_neurons=0.5, recover_epochs=1, calibration_rows=16).run(
        make_context(rows=32), tuned
    )
    assert asked == [(2, 2)]


@pytest.mark.parametrize("parameters", [{"rounds": 2}, {"transfer": "texts"}])
def test_rounds_and_texts_are_for_recovery(parameters):
    with pytest.raises(ValidationError, match="'recover_epochs'"):
        Prune(remove_neurons=0.5, **parameters)


def test_rounds_are_not_of_tokens():
    with pytest.raises(ValidationError, match="'rounds' apply to layers, heads and neurons"):
        Prune(rounds=2, recover_epochs=1, vocabulary=True)


@pytest.fixture
def rounds(monkeypatch):
    """What recovery gets: the heads of each layer, round by round; nothing is trained."""
    seen = []

    def train(context, parameters, network, *others):
        seen.append([part.count for part in surgery.parts(network, "heads")])
        return Metric(name=f"round_{len(seen)}", value=0.0)

    monkeypatch.setattr(recovery, "train", train)
    return seen


@pytest.mark.parametrize(
    ("parameters", "depths", "heads"),
    [
        ({"rounds": 2}, [2, 1], 4),
        ({"rounds": 5}, [2, 1], 4),
        ({"rounds": 1}, [1], 4),
        ({"rounds": 2, "remove_heads": 0.5}, [2, 1], 2),
        ({"rounds": 2, "remove_macs": 0.3, "remove_layers": [0]}, [2, 2], None),
        ({"rounds": 2, "keep_parameters": 8000}, [1, 1], None),
    ],
    ids=str,
)
def test_layers_go_in_rounds_and_units_of_those_that_stay(
    parameters, depths, heads, rounds, fresh, make_context
):
    """What parameters can reach is checked before anything is trained, so layers go before."""
    stage = Prune(**{"remove_layers": 0.67, "recover_epochs": 1, **parameters})
    stage.run(make_context(rows=16), fresh)
    assert [len(layers) for layers in rounds] == depths
    if heads is not None:
        assert sum(rounds[-1]) == heads


def test_layers_that_are_named_go_in_rounds_too(rounds, fresh, make_context):
    context = make_context(rows=16)
    Prune(remove_layers=[0, 2], rounds=2, recover_epochs=1).run(context, fresh)
    assert [len(layers) for layers in rounds] == [2, 1]
    original = checkpoint.load(fresh.directory)
    with surgery.skipped([original.bert.encoder.layer[at] for at in (0, 2)]):
        expected = masked_logits(original, {})
    torch.testing.assert_close(masked_logits(checkpoint.load(context.output), {}), expected)


def test_tokens_of_a_transfer_set_and_of_unlabelled_text_stay(tuned, make_context, tmp_path):
    context = make_context(rows=4)
    seen = set(" ".join(context.split("train").texts).split())
    rare = [word for word in (*GOOD, *BAD, *FILL) if word not in seen][:2]
    transfer_set.write(tmp_path, [(rare[0], None)])
    context.artifacts["texts"] = artifact_of(tmp_path, Kind.TRANSFER_SET)
    context.splits["unlabelled"] = Split("unlabelled", "", "", [rare[1]], None, None)
    known = {}
    for transfer in (None, "texts"):
        Prune(vocabulary=True, transfer=transfer).run(context, tuned)
        vocabulary = checkpoint.load_tokenizer(context.output).get_vocab()
        known[transfer] = [word in vocabulary for word in rare]
    assert known == {None: [False, True], "texts": [True, True]}


def test_answers_without_texts_have_no_tokens_that_could_stay(workshop):
    stage = {"vocabulary": True, "transfer": "label"}
    stages = ["quick:Head", "label", {"prune": stage}]
    with pytest.raises(
        RecipeError, match=r"trial.yaml:\d+: .*transfer: 'label' has answers but no"
    ):
        workshop.open(*stages).plan.steps()
    stage["recover_epochs"] = 1  # which learns the answers
    assert workshop.open(*stages).plan.steps()


@pytest.mark.parametrize("vocabulary", [False, True])
def test_as_many_parameters_stay_as_were_asked_for(vocabulary, fresh, make_context):
    whole = sum(each.numel() for each in checkpoint.load(fresh.directory).parameters())
    asked = round(0.8 * whole)
    draft = Prune(keep_parameters=asked, vocabulary=vocabulary).run(make_context(rows=16), fresh)
    assert 0.95 * asked < draft.model["parameters"] <= asked


def test_a_model_that_is_small_enough_keeps_its_heads_and_neurons(fresh, make_context):
    whole = sum(each.numel() for each in checkpoint.load(fresh.directory).parameters())
    stage = Prune(keep_parameters=whole, rounds=3, recover_epochs=1)
    draft = stage.run(make_context(rows=16), fresh)
    assert draft.model["parameters"] == whole
    names = [metric.name for metric in draft.metrics]
    assert names == ["recovery_loss", "parameters_removed"], "nothing to recover from in steps"


def test_fewer_parameters_than_embeddings_have_are_out_of_reach(fresh, make_context):
    with pytest.raises(
        ModelError, match=r"prune.keep_parameters: 1,000 is out of reach, as [\d,]+ are"
    ):
        Prune(keep_parameters=1000).run(make_context(rows=16), fresh)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"remove_macs": 0.5, "remove_heads": 0.5}, "'remove_macs' chooses how many"),
        ({"remove_macs": 0.5, "speedup": 2, "table": "x"}, "either 'speedup' or 'remove_macs'"),
        ({"remove_macs": 0.5, "keep_parameters": 2}, "either 'remove_macs' or 'keep_parameters'"),
        ({"keep_parameters": 2, "remove_neurons": 0.5}, "'keep_parameters' chooses how many"),
    ],
)
def test_one_target_at_a_time(parameters, message):
    with pytest.raises(ValidationError, match=message):
        Prune(**parameters)
