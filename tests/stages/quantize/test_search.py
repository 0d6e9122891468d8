"""A search takes the fastest plan within the limit, and goes on after a kill."""

from __future__ import annotations

import itertools
import json
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rarefy.pipeline.measure.measurements import Latency
from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.model.quantization.plan import Calibration
from rarefy.pipeline.terms.errors import ModelError
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.stages.common import resume as notes
from rarefy.stages.quantization import bundles
from rarefy.stages.quantization.sensitivity import Sensitivity
from rarefy.stages.quantize import Quantize
from rarefy.stages.quantize import search as plan_search
from rarefy.stages.quantize.search import Candidate, SearchResult, hull
from tests.known_times import by_size, know_times
from tests.pipeline.verdict.measured import calls_of

OPTION = st.tuples(st.floats(-1, 4), st.floats(0, 1), st.sampled_from("abcd"))


@given(st.lists(OPTION, max_size=6))
@settings(deadline=None)
def test_steps_grow_and_end_at_the_form_that_saves_most(options):
    steps = hull(options)
    slopes = [slope for slope, _ in steps]
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(slopes))
    saving = [each for each in options if each[0] > 0]
    assert bool(steps) == bool(saving)
    if saving:
        most = max(saved for saved, _, _ in saving)
        assert steps[-1][1] in {form for saved, _, form in saving if saved == most}


def test_a_form_that_saves_less_for_more_damage_is_passed_over():
    options = [(1.0, 0.5, "bad"), (2.0, 0.2, "good"), (3.0, 1.2, "fast")]
    assert hull(options) == [(pytest.approx(0.1), "good"), (pytest.approx(1.0), "fast")]


def test_the_front_has_the_plans_that_no_other_beats():
    tried = [
        Candidate(("a",), {}, damage, ms)
        for damage, ms in [(0.0, 9.0), (0.1, 5.0), (0.2, 6.0), (0.3, 4.0), (0.3, 4.5)]
    ]
    found = SearchResult(tried[1], tried, Calibration(rows=1), Interval(9, 8, 10), 1.0)
    rows = found.record(0.5)["plans"]
    front = [(row["ms"], row["damage"]) for row in rows if row["front"]]
    assert front == [(4.0, 0.3), (5.0, 0.1), (9.0, 0.0)]
    assert [row["ms"] for row in rows if row["chosen"]] == [5.0]


@pytest.fixture
def quick(monkeypatch):
    """Known times, by which int8 is faster: it is not in a model so small."""
    know_times(monkeypatch, by_size)
    monkeypatch.setattr(plan_search, "FINALISTS", 2)
    table = {"float": 9.0, "dynamic": 4.0, "static": 3.0}
    table |= {"dynamic smooth": 4.5, "static smooth": 3.5}
    monkeypatch.setattr(plan_search.time_products, "milliseconds", lambda *_: table)


@pytest.fixture
def untimed(quick, monkeypatch):
    """No process is started: all bundles are said to be equally fast."""

    def measure(built, *_, **__):
        return Latency(samples={name: calls_of(1.0) for name in built}, provider="cpu")

    monkeypatch.setattr(bundles.latency, "measure", measure)


def search(context, tuned, **parameters):
    stage = Quantize(mode="search", calibration_rows=32, **parameters)
    draft = stage.run(context, tuned)
    return draft, json.loads((context.output / "search.json").read_text())


@pytest.fixture
def limit(tuned, make_context):
    """A limit that the whole model in int8 exceeds."""
    context = make_context(targets=(Target(),))
    stage = Quantize(mode="static", calibration_rows=32, max_damage=1e9, max_joint_damage=1e9)
    metrics = {metric.name: metric.value for metric in stage.run(context, tuned).metrics}
    return metrics["quantization_kl"] / 10


@pytest.mark.slow
def test_products_are_timed_while_nobody_else_measures(
    tuned, make_context, quick, limit, monkeypatch
):
    held, measuring = [], plan_search.exclusive.measuring

    class StoppedError(Exception):
        pass

    @contextmanager
    def noted(waiting):
        with measuring(waiting):
            held.append(1)
            yield

    def milliseconds(*_):
        raise StoppedError(bool(held))

    monkeypatch.setattr(plan_search.exclusive, "measuring", noted)
    monkeypatch.setattr(plan_search.time_products, "milliseconds", milliseconds)
    with pytest.raises(StoppedError) as caught:
        search(make_context(targets=(Target(),)), tuned, max_joint_damage=limit)
    assert caught.value.args == (True,)


@pytest.mark.slow
def test_no_plan_over_the_limit_is_built_and_the_front_is_written(
    tuned, make_context, quick, limit
):
    context = make_context(targets=(Target(),))
    draft, record = search(context, tuned, max_joint_damage=limit)
    assert draft.roles["search.json"] == "search"
    measured = [row for row in record["plans"] if row["interval"]]
    assert measured
    assert all(row["damage"] <= limit for row in measured)
    assert any(row["damage"] > limit for row in record["plans"]), "the limit bound nothing"
    (chosen,) = [row for row in record["plans"] if row["chosen"]]
    assert chosen["interval"]
    fastest = min(row["ms"] for row in measured)
    assert chosen["ms"] <= 1.01 * fastest  # times have one percent of noise
    values = {metric.name: metric.value for metric in draft.metrics}
    assert values["plan_ms"] == pytest.approx(chosen["ms"])
    plan = quantization.read(context.output)
    assert len(plan.integer_modules) == values["integer_layers"]


@pytest.mark.slow
def test_a_search_says_that_its_last_timing_was_disturbed_each_time(
    tuned, make_context, untimed, limit, monkeypatch, caplog
):
    whole, taken = bundles.latency.measure, []

    def measure(*arguments, **options):
        if not taken:
            taken.append(whole(*arguments, **options))
        taken[0].throttled = "the CPU was busy"
        return taken[0]

    monkeypatch.setattr(bundles.latency, "measure", measure)
    search(make_context(targets=(Target(),)), tuned, max_joint_damage=limit)
    assert "the CPU was busy, so the plan may not be the fastest" in caplog.text


@pytest.mark.slow
def test_a_killed_search_measures_nothing_twice(tuned, make_context, untimed, limit, monkeypatch):
    context = make_context(targets=(Target(),))
    real, calls = Sensitivity.damage, []

    def killed(self, layers):
        calls.append(layers)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return real(self, layers)

    def noted():
        return set(json.loads((context.work / "search.json").read_text()))

    monkeypatch.setattr(Sensitivity, "damage", killed)
    with pytest.raises(KeyboardInterrupt):
        search(context, tuned, max_joint_damage=limit)
    before = noted()
    search(context, tuned, max_joint_damage=limit)
    again = len(calls) - 12 - 1  # whether the vocabulary alone is tolerated is tried anew
    assert again == len(noted() - before) > 0


@pytest.mark.slow
def test_when_time_is_over_what_was_not_tried_stays_float(tuned, make_context, untimed, limit):
    context = make_context(targets=(Target(),))
    _, record = search(context, tuned, max_joint_damage=limit, seconds=0.006)
    assert sum(bool(row["interval"]) for row in record["plans"]) <= 2
    notes = json.loads((context.work / "search.json").read_text())
    assert not [key for key in notes if key.startswith("group ")]


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "most"), [(600, 99), (0.006, 1)])
def test_a_plan_that_cannot_be_exported_is_passed_over_while_there_is_time(
    tuned, make_context, untimed, monkeypatch, caplog, seconds, most
):
    real, refused = bundles.build, []

    def refuse(directory, *args, **options):
        if (directory / quantization.FILE).exists():
            refused.append(directory)
            raise ModelError("answers differ")
        return real(directory, *args, **options)

    monkeypatch.setattr(bundles, "build", refuse)
    draft, record = search(make_context(targets=(Target(),)), tuned, seconds=seconds)
    assert 1 <= len(refused) <= most
    assert draft.model["quantization"]["integer"] == 0
    assert [row["groups"] for row in record["plans"] if row["chosen"]] == [{"float": 13}]
    assert "no plan within max_joint_damage (0.02) was found, so all layers and the" in caplog.text


@pytest.mark.slow
def test_plans_are_tried_with_their_vocabulary(tuned, make_context, untimed, limit, monkeypatch):
    """Without it, all plans that were built could be over the limit, and float the answer."""
    real = Sensitivity.damage

    def damage(self, layers):
        """Tables in int8 do no damage alone, and much together with layers."""
        together = bool(layers) and self.embeddings == "int8"
        return real(self, layers) + together * limit

    monkeypatch.setattr(Sensitivity, "damage", damage)
    _, record = search(make_context(targets=(Target(),)), tuned, max_joint_damage=limit)
    simulated = [row for row in record["plans"] if not row["interval"]]
    assert simulated
    assert all(row["damage"] >= limit for row in simulated)


@pytest.mark.slow
def test_forms_that_are_the_same_are_built_once(tuned, make_context, untimed, monkeypatch):
    """Where nothing is smoothed, a smooth form is the plain one."""
    monkeypatch.setattr(plan_search.smoothing, "factors", lambda *_: {})
    monkeypatch.setattr(plan_search, "FINALISTS", 9)
    real, built = bundles.Finalists.build, []
    monkeypatch.setattr(
        bundles.Finalists, "build", lambda self, plan: built.append(plan) or real(self, plan)
    )
    search(make_context(targets=(Target(),)), tuned)
    plans = [plan.linears for plan in built if plan]
    assert len(plans) >= 2
    assert all(one != other for one, other in itertools.combinations(plans, 2))


class Clock:
    """Time that passes only when a test says so."""

    now = 0.0

    def monotonic(self):
        return self.now

    def taking(self, seconds, work):
        def timed(*arguments, **options):
            self.now += seconds
            return work(*arguments, **options)

        return timed


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(notes, "time", clock)
    return clock


@pytest.mark.slow
def test_what_comes_before_the_first_number_takes_of_the_time(
    tuned, make_context, untimed, limit, monkeypatch, clock
):
    slow = clock.taking(400, plan_search.smoothing.factors)
    monkeypatch.setattr(plan_search.smoothing, "factors", slow)
    context = make_context(targets=(Target(),))
    _, record = search(context, tuned, max_joint_damage=limit, seconds=600)
    assert record["seconds"] == 400
    kept = json.loads((context.work / "search.json").read_text())
    assert not [key for key in kept if key.startswith("group ")]


def test_a_killed_search_knows_how_long_it_exported(tuned, make_context, quick, monkeypatch, clock):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(bundles, "build", clock.taking(10, bundles.build))
    monkeypatch.setattr(bundles.Finalists, "damage", killed)
    context = make_context(targets=(Target(),))
    with pytest.raises(KeyboardInterrupt):
        search(context, tuned)
    kept = json.loads((context.work / "search.json").read_text())
    assert kept["seconds"] == clock.now == 20  # float and a plan


def test_bundles_have_the_width_that_all_targets_have(tuned, make_context, quick, monkeypatch):
    class Built(Exception):  # noqa: N818
        """A bundle would be built."""

    def build(*_, **options):
        raise Built(options["isa"])

    monkeypatch.setattr(bundles, "build", build)
    targets = (Target(name="new", isa="vnni"), Target(name="any"))
    with pytest.raises(Built, match="avx2"):
        search(make_context(targets=targets), tuned)
