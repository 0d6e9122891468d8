"""A table of a model's times on this machine, by which pruning reaches a speed-up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from rarefy.pipeline.measure.latency import session as latency
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.architectures import parts
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.tasks.embeddings.task import SENTENCE_EMBEDDINGS
from rarefy.pipeline.terms.errors import ModelError, RecipeError
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.stages.prune import Prune, latency_table, selection
from rarefy.stages.prune.profile import Profile
from rarefy.stages.quantization import bundles
from tests.known_times import by_size, know_times
from tests.models import artifact_of
from tests.searches import lessons


@pytest.mark.slow
def test_a_profile_lets_prune_reach_a_speedup(tuned, make_context, monkeypatch):
    know_times(monkeypatch, by_size)
    context = make_context(rows=32, targets=(Target(),))
    with monkeypatch.context() as few_points:
        few_points.setattr(selection, "MULTIPLES", {"heads": 2, "neurons": 32})
        draft = Profile(seconds=1).run(context, tuned)
    assert draft.roles == {"latencies.json": "latencies"}
    table = latency_table.load(context.output)
    assert table.curves.keys() == {"heads", "neurons"}
    for curve in table.curves.values():
        assert len(curve.counts) == len(curve.one) == len(curve.two) > 1
        assert min(curve.one) > 0
        assert all(two > one for one, two in zip(curve.one, curve.two, strict=True))
    assert table.tokens > 2
    artifact = artifact_of(context.output, Kind.REPORT)
    pruned = make_context(rows=32, targets=(Target(),), artifacts={"times": artifact})
    stage = Prune(speedup=1.02, table="times", calibration_rows=16)
    assert stage.references() == {"table": "times"}
    found = {metric.name: metric.value for metric in stage.run(pruned, tuned).metrics}
    assert found["parameters_removed"] > 0
    assert found["speedup"] > 1.02


def test_a_pretrained_model_has_the_table_of_the_teacher_made_of_it(
    tiny_encoder, tuned, make_context, monkeypatch
):
    timed = SimpleNamespace(
        percentile=lambda *_: SimpleNamespace(value=1.0),
        tokens=[5],
        samples={"1-whole": [[1.0]]},
        throttled=None,
    )
    monkeypatch.setattr(bundles.Finalists, "int8", lambda _: iter([Path()]))
    monkeypatch.setattr(latency, "measure", lambda *_, **__: timed)
    context = make_context(rows=32, targets=(Target(),))
    Profile().run(context, tiny_encoder)
    table = latency_table.load(context.output)
    teacher = checkpoint.load(tuned.directory)
    assert table.model == latency_table.model_of(teacher)
    assert {unit: curve.counts[-1] for unit, curve in table.curves.items()} == {
        "heads": parts.head_counts(teacher)[0],
        "neurons": parts.neuron_counts(teacher)[0],
    }


def test_a_search_is_timed_by_its_queries(make_context, monkeypatch):
    asked = []

    def timed(_, *given, **__):
        asked.append(given)
        return SimpleNamespace(throttled="the clock fell" if len(asked) == 1 else None)

    monkeypatch.setattr(latency, "measure", timed)
    task = SENTENCE_EMBEDDINGS.bind((), 8, ("query", "positive"))
    context = make_context(task=task, splits={"dev": lessons()}, targets=(Target(),))
    Profile()._timed(context, {})
    assert asked == [(["warm", "dull"], None)] * 2, "once more, as the first was disturbed"


def test_a_table_from_before_the_teacher_is_found_again_beside_another(workshop):
    speed = {"speedup": 2, "table": "profile"}
    workshop.run("quick:Head")
    plans = [
        workshop.open("profile", {"quick:Head": {"fill": fill}}, {"prune": speed}).plan.steps()
        for fill in "01"
    ]
    assert [plan[2].cached for plan in plans] == [True, False]
    first, second = (plan[1].fingerprint for plan in plans)
    assert first == second
    assert first is not None


def test_only_cpus_are_timed(workshop):
    stages = ["quick:Head", "profile"]
    with pytest.raises(RecipeError, match="profile: it times on a CPU"):
        workshop.open(*stages, targets=[{"name": "gpu", "provider": "cuda"}]).plan.steps()


def test_a_model_without_described_parts_is_refused(workshop):
    with pytest.raises(
        RecipeError, match=r"trial.yaml:\d+: .*'rarefy-bag-of-tokens' are not described"
    ):
        workshop.open("quick:Head", "bag_of_tokens", "profile").plan.steps()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"speedup": 2}, "go together"),
        ({"table": "times", "vocabulary": True}, "go together"),
        ({"speedup": 2, "table": "times", "remove_heads": "10 %"}, "chooses how many"),
    ],
)
def test_a_speedup_needs_a_table_and_no_shares(workshop, parameters, message):
    with pytest.raises(RecipeError, match=message):
        workshop.open("quick:Head", "profile", {"prune": parameters}).plan.steps()


def test_a_table_is_not_a_model(workshop):
    stages = ["quick:Head", {"prune": {"speedup": 2, "table": "head"}}]
    with pytest.raises(RecipeError, match="table: 'head' makes a checkpoint, not a report"):
        workshop.open(*stages).plan.steps()


def test_another_report_has_no_table(tmp_path):
    with pytest.raises(ModelError, match="'profile' does"):
        latency_table.load(tmp_path)


def test_a_profile_judges_no_budget(workshop):
    budgets = [{"metric": "accuracy", "min": 0.5}]
    with pytest.raises(RecipeError, match="no 'validate' stage measures the budgets"):
        workshop.open("quick:Head", "profile", budgets=budgets).plan.steps()


def test_layers_that_differ_have_no_table(tuned, make_context):
    context = make_context(rows=32)
    Prune(remove_neurons=0.5, calibration_rows=16).run(context, tuned)
    pruned = artifact_of(context.output, Kind.CHECKPOINT)

    with pytest.raises(ModelError, match=r"profile: the layers differ already"):
        Profile().run(make_context(rows=32, targets=(Target(),)), pruned)
