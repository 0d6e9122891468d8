"""Ranks for a speed-up: by the times in a table, and corrected by what was measured."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.terms.errors import ModelError, RecipeError
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.stages.factorize import Factorize, thin
from rarefy.stages.factorize.speedup import Speedup
from rarefy.stages.quantization import bundles
from rarefy.stages.surgery.latency_table import Curve, Table
from tests.models import artifact_of

NEURONS = Curve((64, 256), one=(1.0, 1.3), two=(2.0, 2.9))
"""192 neurons of 128 weights take 0.6 ms in a layer in the middle and 0.3 ms in the last one."""
TABLE = Table(
    "machine",
    1,
    20,
    {"neurons": NEURONS},
    {"model_type": "bert", "hidden_size": 64, "head_size": 16},
    "int8",
)


@pytest.fixture
def make(wide, make_context, tmp_path):
    def of(target):
        (tmp_path / "table").mkdir(exist_ok=True)
        TABLE.save(tmp_path / "table")
        network = checkpoint.load(wide.directory)
        tokenizer = checkpoint.load_tokenizer(wide.directory)
        context = make_context(rows=8, targets=(Target(),))
        search = Speedup(context, network, network, tokenizer, tmp_path / "table", target)
        return search, thin.decomposed(context, network, tokenizer, 8)

    return of


def saved(groups, ranks):
    """Return the ms that ranks save, by the definition of ``NEURONS``."""
    ms = 0.0
    for group, rank in zip(groups, ranks, strict=True):
        outputs, inputs = group.decomposition.shape
        gone = 0 if rank is None else outputs * inputs - rank * (outputs + inputs)
        last = ".layer.1." in group.names[0]
        ms += gone * (0.3 if last else 0.6) / (192 * 128)
    return ms


def test_the_ranks_save_the_time_that_the_table_says(make):
    search, groups = make(1.3)
    ranks = search.ranks(groups, 1.3)
    now = 2.9  # two layers
    assert now * (1 - 1 / 1.3) <= saved(groups, ranks) < now * (1 - 1 / 1.5)


def test_a_speedup_that_no_rank_gives_is_refused(make):
    search, groups = make(8)
    with pytest.raises(ModelError, match=r"factorize.speedup: 8× is out of reach; .* 'prune' goes"):
        search.search(groups)


def test_the_last_layer_is_left_whole_if_it_takes_no_time(make, tmp_path):
    search, groups = make(1.2)
    curve = Curve((64, 256), one=(1.0, 1.0), two=(2.0, 2.6))
    table = Table(TABLE.machine, 1, 20, {"neurons": curve}, TABLE.model, "int8")
    table.save(tmp_path / "table")
    for group, rank in zip(groups, search.ranks(groups, 1.2), strict=True):
        if ".layer.1." in group.names[0]:
            assert rank is None
    assert any(search.ranks(groups, 1.2))


def test_a_miss_is_corrected_by_what_was_measured(make):
    search, groups = make(1.3)
    shapes, times = [], iter([1.1, 1.31])

    def ranks(speedup):
        shapes.append(speedup)
        return search.ranks(groups, speedup)

    chosen = search.nearest(ranks, lambda _: Interval(next(times), 1.0, 2.0))
    assert shapes == [1.3, pytest.approx(1.3 * 1.3 / 1.1)]
    assert chosen == search.ranks(groups, shapes[1])
    (metric,) = search.metrics()
    assert (metric.name, metric.value) == ("speedup", 1.31)


@pytest.mark.slow
def test_the_stage_makes_bundles_and_says_what_it_measured(
    wide, make_context, tmp_path, monkeypatch
):
    monkeypatch.setattr(bundles, "PROCESSES", 2)
    monkeypatch.setattr(bundles, "SECONDS", 1.0)
    TABLE.save(tmp_path)
    reports = {"profile": artifact_of(tmp_path, Kind.REPORT)}
    context = make_context(rows=16, targets=(Target(),), artifacts=reports)
    stage = Factorize(speedup=1.2, table="profile", calibration_rows=16)
    draft = stage.run(context, wide)
    metrics = {metric.name: metric for metric in draft.metrics}
    assert metrics["speedup"].low <= metrics["speedup"].value <= metrics["speedup"].high
    network = checkpoint.load(context.output)
    for name, rank in draft.model["ranks"].items():
        assert network.get_submodule(name).down.out_features == rank


def test_a_speedup_needs_a_table_and_decides_the_weights_itself():
    with pytest.raises(ValidationError, match="'speedup' and 'table', the id of a profile stage"):
        Factorize(speedup=1.3)
    with pytest.raises(ValidationError, match="either 'keep_weights' or 'speedup', not both"):
        Factorize(speedup=1.3, table="profile", keep_weights=0.5)


def test_a_table_of_float_models_is_refused_before_anything_runs(workshop):
    stages = ["quick:Head", {"profile": {"precision": "float"}}]
    factorize = {"factorize": {"speedup": 1.3, "table": "profile"}}
    with pytest.raises(RecipeError, match="'profile' times float models, but a speed-up is"):
        workshop.open(*stages, factorize).plan.steps()
