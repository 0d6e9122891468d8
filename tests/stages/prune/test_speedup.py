"""Units are kept as the time allows, and a miss is corrected by what was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.terms.errors import ModelError, RecipeError
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.stages.distill import Distill
from rarefy.stages.prune import Prune
from rarefy.stages.prune import layers as layer_search
from rarefy.stages.prune import speedup as module
from rarefy.stages.prune.latency_table import Curve, Table
from rarefy.stages.prune.speedup import Speedup
from rarefy.stages.quantization.bundles import Finalists
from rarefy.stages.surgery import units as surgery
from rarefy.stages.training.parameters import SEARCHES
from tests.models import artifact_of

TABLE = Table(
    "machine",
    1,
    20,
    {
        "heads": Curve((1, 4), one=(1.1, 1.4), two=(2.1, 2.9)),
        "neurons": Curve((16, 64), one=(1.0, 1.4), two=(1.9, 2.9)),
    },
    {"model_type": "bert", "hidden_size": 32, "head_size": 8},
    "int8",
)


@pytest.fixture
def make(tuned, make_context, tmp_path):
    TABLE.save(tmp_path)
    network = checkpoint.load(tuned.directory)
    tokenizer = checkpoint.load_tokenizer(tuned.directory)
    context = make_context(rows=8, targets=(Target(),))

    def of(asked):
        return Speedup(context, network, network, tokenizer, tmp_path, asked)

    return of


def timed(value):
    return Interval(value, value - 0.1, value + 0.1)


def importance(network):
    torch.manual_seed(0)
    return {
        unit: [torch.rand(part.count) for part in surgery.parts(network, unit)]
        for unit in ("heads", "neurons")
    }


def test_the_counts_take_the_time_that_is_left(make):
    search = make(1.5)
    ranked = importance(search.network)
    counts = search.counts(ranked, 1.5)
    layers = [
        {unit: counts[unit][place] for unit in counts} for place in range(len(counts["heads"]))
    ]
    whole = [{unit: len(ranked[unit][place]) for unit in ranked} for place in range(len(layers))]
    ratio = TABLE.ms(whole) / TABLE.ms(layers)
    assert 1.5 <= ratio < 1.7
    assert len(set(counts["neurons"])) > 1 or len(set(counts["heads"])) > 1


def test_more_than_all_units_can_give_is_refused_with_what_they_can(make):
    search = make(50)
    with pytest.raises(ModelError, match=r"prune.speedup: 50× is out of reach; .* give \d.*remove"):
        search.counts(importance(search.network), 50)


def test_what_is_out_of_reach_is_refused_before_anything_is_trained(make):
    make(1.5).check()
    with pytest.raises(ModelError, match=r"prune.speedup: 50× is out of reach"):
        make(50).check()


def test_layers_go_if_heads_and_neurons_cannot_give_the_speed(
    tuned, make_context, tmp_path, monkeypatch
):
    TABLE.save(tmp_path)
    monkeypatch.setattr(Speedup, "time", lambda *_: timed(3.0))
    compared, real = [], layer_search.least_needed

    def least_needed(*given, whole):
        compared.append(whole)
        return real(*given, whole=whole)

    monkeypatch.setattr(layer_search, "least_needed", least_needed)
    context = make_context(
        rows=16, targets=(Target(),), artifacts={"profile": artifact_of(tmp_path, Kind.REPORT)}
    )
    whole = len(checkpoint.encoder_layers(checkpoint.load(tuned.directory)))
    draft = Prune(speedup=3.0, table="profile", calibration_rows=16).run(context, tuned)
    assert 1 <= draft.model["layers"] < whole
    assert all(each is compared[0] for each in compared), "the model's own answers, each time"
    assert compared[0] is not None
    with pytest.raises(ModelError, match="out of reach"):  # the user chose which layers go
        Prune(speedup=6.0, table="profile", remove_layers=[0], calibration_rows=16).run(
            context, tuned
        )


def times(*values):
    """Return what measures a shape: these speed-ups, one after the other."""
    left = iter(values)
    return lambda _: timed(next(left))


def test_a_miss_is_corrected_by_what_was_measured(make):
    search = make(1.5)
    asked = []

    def counts(wanted):
        asked.append(wanted)
        return {"heads": [len(asked)]}

    assert search.nearest(counts, times(1.2, 1.48)) == {"heads": [2]}
    assert asked == [1.5, pytest.approx(1.5 / (1.2 / 1.5))]
    (metric,) = search.metrics()
    assert (metric.name, metric.value) == ("speedup", 1.48)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": TABLE.model | {"hidden_size": 384}}, "hidden_size 384, but this one has 32"),
        ({"model": TABLE.model | {"model_type": "mpnet"}}, "model_type mpnet, but .* has bert"),
        ({"model": TABLE.model | {"head_size": 16}}, "head_size 16, but this one has 8"),
        ({"precision": "float"}, "its times are of float models, .*; profile in int8"),
        (
            {"curves": {"neurons": Curve((16, 32), one=(1.0, 1.4), two=(1.9, 2.9))}},
            "it ends at 32 neurons, but a layer has 64",
        ),
    ],
)
def test_a_table_of_another_model_is_refused(make, tmp_path, changes, message):
    search = make(1.5)
    replace(TABLE, **changes).save(tmp_path)
    with pytest.raises(ModelError, match=f"prune.table: .*{message}"):
        _ = search.kinds


def test_a_speedup_that_is_far_off_is_told(make, caplog):
    search = make(1.5)
    search.nearest(lambda _: {}, lambda _: timed(1.2))
    assert "the closest to a speed-up of 1.5× has 1.2×" in caplog.text
    found = {metric.name: metric.value for metric in search.metrics()}
    assert found == {"speedup": 1.2, "speedup_missed": 0.2}


def test_the_nearest_is_kept_if_none_is_close(make):
    search = make(1.5)
    number = iter(range(9))
    nearest = search.nearest(lambda _: {"heads": [next(number)]}, times(1.2, 1.4, 1.9))
    assert nearest == {"heads": [1]}
    assert next(number) == SEARCHES


def test_a_killed_run_goes_on_with_the_same_model(make, monkeypatch):
    counts = {"heads": [1], "neurons": [16]}
    make(1.5).nearest(lambda _: counts, lambda _: timed(1.5))
    again = make(1.5)
    monkeypatch.setattr(Speedup, "counts", lambda *_: pytest.fail("searched again"))
    assert again.search({}, lambda counts: counts) == counts
    assert again.measured == Interval(1.5, 1.4, 1.6)


def test_what_was_timed_before_a_kill_is_not_timed_again(make):
    seen = []

    def killed(counts):
        if len(seen) == 1:
            raise KeyboardInterrupt
        seen.append(counts)
        return timed(1.2)

    def whole(counts):
        seen.append(counts)
        return timed(1.5)

    numbers = iter([1, 2, 1, 2, 3])

    def counts(_):
        return {"heads": [next(numbers)]}

    with pytest.raises(KeyboardInterrupt):
        make(1.5).nearest(counts, killed)
    assert make(1.5).nearest(counts, whole) == {"heads": [2]}
    assert seen == [{"heads": [1]}, {"heads": [2]}]


@pytest.mark.parametrize("disturbed", [None, "the CPU was busy"])
def test_a_disturbed_timing_is_said(make, monkeypatch, caplog, disturbed):
    class Timed:
        throttled = disturbed

        def ratio(self, *_):
            return timed(1.5)

    search = make(1.5)
    monkeypatch.setattr(Finalists, "int8", lambda _: iter([Path()]))
    monkeypatch.setattr(Finalists, "time", lambda *_: Timed())
    parts = surgery.forward_order(surgery.parts(search.network, unit) for unit in search.kinds)
    whole = [torch.arange(part.count) for part in parts]
    search.search(importance(search.network), lambda _: whole)
    assert ("the CPU was busy, so" in caplog.text) == (disturbed is not None)


def test_no_layer_goes_for_a_table_that_cannot_be_used(make, tmp_path, monkeypatch):
    replace(TABLE, precision="float").save(tmp_path)
    monkeypatch.setattr(
        module.layer_search, "least_needed", lambda *_: pytest.fail("looked for layers")
    )
    with pytest.raises(ModelError, match="profile in int8"):
        make(1.5).reach(layers_too=True)


def test_a_table_of_float_models_is_refused_before_anything_runs(workshop):
    stages = ["quick:Head", {"profile": {"precision": "float"}}]
    fast = {"prune": {"speedup": 2, "table": "profile"}, "from": "head"}
    with pytest.raises(RecipeError, match=r"trial.yaml:\d+: .*'profile' times float models"):
        workshop.open(*stages, fast).plan.steps()


def test_how_many_layers_are_left_is_not_known_beforehand():
    left = Prune(speedup=2, table="profile").follow_model(
        {"model_type": "bert", "num_hidden_layers": 6}, {}, Path()
    )
    assert Distill(keep_layers=6).follow_model(left, {}, Path()) == left


def test_a_correction_that_is_out_of_reach_leaves_the_nearest(make):
    search, first = make(1.5), iter([{"heads": [2]}])

    def counts(_):
        try:
            return next(first)
        except StopIteration:
            raise ModelError("out of reach") from None

    assert search.nearest(counts, lambda _: timed(1.3)) == {"heads": [2]}
