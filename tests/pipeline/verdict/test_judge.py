import pytest

from rarefy.pipeline.measure.measurements import Latency
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.pipeline.verdict.judge import judge, stopping_rule
from tests.pipeline.verdict.measured import CPU, answers_right, calls_of, one


def test_every_target_is_judged(measurements):
    measurements.latency["two"] = Latency(
        samples={"candidate": calls_of(4.0), "finetune": calls_of(5.0)}, threads=2
    )
    budgets = [Budget(metric="speedup", min_speedup=3, against="finetune")]
    targets = (Target(), Target(name="two", threads=2))
    verdict = judge(budgets, targets, measurements)
    assert [(b.target, b.outcome) for b in verdict.budgets] == [("cpu", "pass"), ("two", "fail")]
    assert verdict.outcome == "fail"


def test_a_budget_of_one_target_is_judged_there_alone(measurements):
    targets = (Target(), Target(name="two", threads=2))
    verdict = judge([Budget(metric="latency_p50", max=2, target="cpu")], targets, measurements)
    assert [b.target for b in verdict.budgets] == ["cpu"]


@pytest.mark.parametrize(
    ("budgets", "outcome"),
    [
        ([], "pass"),
        ([{"metric": "size", "max": 1, "level": "warn"}], "pass"),
        ([{"metric": "accuracy", "min": 0.9, "level": "warn"}], "pass"),
        ([{"metric": "accuracy", "min": 0.9}], "inconclusive"),
        ([{"metric": "accuracy", "min": 0.9}, {"metric": "size", "max": 1}], "fail"),
    ],
)
def test_the_verdict_is_its_worst_error(measurements, budgets, outcome):
    assert judge([Budget(**b) for b in budgets], CPU, measurements).outcome == outcome


THROTTLED = "the CPU's clock fell from 3.1 to 1.9 GHz"


@pytest.mark.parametrize(
    "budget",
    [
        {"metric": "latency_p50", "max": "2 ms"},  # would pass
        {"metric": "latency_p50", "max": "0.5 ms"},  # would fail
        {"metric": "latency_p50", "min_speedup": "4x", "against": "finetune"},
        {"metric": "latency_p50", "max_regression": "5 %", "against": "finetune"},
        {"metric": "speedup", "min": "6x"},
    ],
)
def test_times_of_a_throttled_target_neither_pass_nor_fail(measurements, budget):
    measurements.latency["cpu"].throttled = THROTTLED
    verdict = judge([Budget(**budget)], CPU, measurements)
    assert verdict.outcome == verdict.budgets[0].outcome == "inconclusive"
    assert verdict.budgets[0].reason.endswith(f"; inconclusive because {THROTTLED}")
    assert verdict.budgets[0].value is not None
    assert verdict.evidence == [f"cpu: {THROTTLED}; its timings cannot support a verdict"]
    assert verdict.exit_code(strict=False) == verdict.exit_code(strict=True) == 4


@pytest.mark.parametrize(("throttled", "outcome"), [("cpu", "inconclusive"), ("two", "pass")])
def test_cold_starts_are_those_of_the_first_target(measurements, throttled, outcome):
    measurements.models["candidate"].cold_start = [100.0, 101.0, 102.0, 103.0, 104.0, 105.0]
    samples = measurements.latency["cpu"].samples
    measurements.latency["two"] = Latency(samples=samples, threads=2)
    measurements.latency[throttled].throttled = THROTTLED
    targets = (Target(), Target(name="two", threads=2))
    verdict = judge([Budget(metric="cold_start", max="1 s")], targets, measurements)
    assert verdict.outcome == verdict.budgets[0].outcome == outcome
    said = [f"cpu: {THROTTLED}; its timings cannot support a verdict"]
    assert verdict.evidence == (said if throttled == "cpu" else [])


def test_a_throttled_target_is_no_excuse_for_what_no_clock_measured(measurements):
    measurements.latency["cpu"].throttled = THROTTLED
    budgets = [
        Budget(metric="size", max="19 MB"),
        Budget(metric="accuracy", min="85 %"),
        Budget(metric="latency_p50", max="2 ms"),
    ]
    verdict = judge(budgets, CPU, measurements)
    assert [b.outcome for b in verdict.budgets] == ["fail", "pass", "inconclusive"]
    assert verdict.exit_code(strict=False) == 3


def test_a_quiet_target_is_judged_beside_a_throttled_one(measurements):
    samples = measurements.latency["cpu"].samples
    measurements.latency["two"] = Latency(samples=samples, threads=2, throttled=THROTTLED)
    targets = (Target(), Target(name="two", threads=2))
    verdict = judge([Budget(metric="latency_p50", max="2 ms")], targets, measurements)
    assert [(b.target, b.outcome) for b in verdict.budgets] == [
        ("cpu", "pass"),
        ("two", "inconclusive"),
    ]
    assert verdict.evidence == [f"two: {THROTTLED}; its timings cannot support a verdict"]
    assert verdict.exit_code(strict=False) == 4


def test_a_throttled_target_is_nothing_to_budgets_that_ask_no_clock(measurements):
    measurements.latency["cpu"].throttled = THROTTLED
    verdict = judge([Budget(metric="size", max="20 MB")], CPU, measurements)
    assert (verdict.outcome, verdict.evidence) == ("pass", [])


def test_a_budget_that_only_warns_does_not_stop_the_build_of_a_throttled_target(measurements):
    measurements.models["candidate"].cold_start = [100.0, 101.0, 102.0, 103.0, 104.0, 105.0]
    measurements.latency["cpu"].throttled = THROTTLED
    timed = [
        Budget(metric="latency_p50", max="2 ms", level="warn"),
        Budget(metric="cold_start", max="1 s", level="warn"),
    ]
    verdict = judge([*timed, Budget(metric="size", max="20 MB")], CPU, measurements)
    assert [b.outcome for b in verdict.budgets] == ["inconclusive", "inconclusive", "pass"]
    assert all(b.reason.endswith(THROTTLED) for b in verdict.budgets[:2])
    assert (verdict.outcome, verdict.evidence, verdict.exit_code(strict=True)) == ("pass", [], 0)


def test_the_answers_of_another_provider_are_judged_too(measurements):
    """A GPU that rounds differently may miss a budget that the CPU meets; NaN always fails."""
    targets = (Target(), Target(name="gpu", provider="cuda"))
    measurements.elsewhere = {"gpu": answers_right(0.80)}
    verdict = judge([Budget(metric="accuracy", min="85 %")], targets, measurements)
    assert [(b.target, b.outcome) for b in verdict.budgets] == [(None, "pass"), ("gpu", "fail")]
    measurements.elsewhere["gpu"][5] = [float("nan")] * 2
    assert judge([], targets, measurements).outcome == "fail"
    size = judge([Budget(metric="size", max="1 GB")], targets[:1], measurements).budgets
    assert [b.metric for b in size] == ["answers", "size"]


def test_a_time_that_was_never_taken_fails_on_a_throttled_target_too(measurements):
    measurements.latency["cpu"].throttled = THROTTLED
    found = one(measurements, metric="speedup", min_speedup="2x", against="prune")
    assert found.outcome == "fail"
    assert "'prune' was not measured" in found.reason


def test_a_drop_of_nothing_is_zero_without_a_sign(measurements):
    twins = {"candidate": measurements.models["finetune"]}
    same = measurements.model_copy(update={"models": measurements.models | twins})
    found = one(same, metric="accuracy", max_drop="1 point", against="finetune")
    assert str(found.value) == "0.0"


def test_timing_stops_when_every_timed_budget_of_the_target_is_decided(measurements):
    budgets = [
        Budget(metric="accuracy", min=0.9),  # inconclusive, but no more calls decide it
        Budget(metric="speedup", min_speedup=3, against="finetune"),
        Budget(metric="latency_p50", max=1e-9, target="two"),
    ]
    is_decided = stopping_rule(budgets, Target(), measurements)
    assert is_decided(measurements.latency["cpu"])
    few = {
        name: [process[:3] for process in calls[:1]]
        for name, calls in measurements.latency["cpu"].samples.items()
    }
    assert not is_decided(Latency(samples=few))


def test_without_a_timed_budget_of_the_target_nothing_is_asked_of_its_calls(measurements):
    budgets = [
        Budget(metric="accuracy", min=0.9),
        Budget(metric="latency_p50", max=1, target="two"),
    ]
    assert stopping_rule(budgets, Target(), measurements) is None
