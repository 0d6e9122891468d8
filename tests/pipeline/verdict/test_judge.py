import numpy as np
import pytest

from pipeline.measure.measurements import Latency, Measurements, ModelMeasurement
from pipeline.terms.budget import Budget
from pipeline.terms.vocabulary import Target
from pipeline.verdict.judge import judge
from pipeline.verdict.verdict import Verdict

CPU = (Target(),)
ROWS = 1000


def _probabilities(right, labels=2):
    """Truth is 0 everywhere; a row is answered 0 where ``right``, else 1."""
    found = np.full((len(right), labels), 0.1)
    found[np.arange(len(right)), np.where(right, 0, 1)] = 0.9
    return found.tolist()


def _share(share):
    return _probabilities(np.arange(ROWS) < share * ROWS)


def _calls(ms, processes=3, calls=150, seed=0):
    """Rows of different lengths, equal for equal seeds, and a 1 % noise of each call."""
    rows = np.random.default_rng(seed).lognormal(0, 0.4, (processes, calls))
    noise = np.random.default_rng([seed, int(ms * 1e6)]).lognormal(0, 0.01, (processes, calls))
    return (ms * rows * noise).tolist()


@pytest.fixture
def measurements():
    models = {
        "candidate": ModelMeasurement(
            digest="c", size=20_000_000, parameters=5_000_000, memory=60_000_000,
            probabilities=_share(0.90),
        ),
        "finetune": ModelMeasurement(
            digest="f", size=90_000_000, parameters=22_000_000, memory=None,
            probabilities=_share(0.91),
        ),
    }  # fmt: skip
    samples = {"candidate": _calls(1.0), "finetune": _calls(5.0)}
    return Measurements(
        machine={},
        task="text-classification",
        labels=["a", "b"],
        truth=[0] * ROWS,
        models=models,
        aliases={"quantize": "finetune"},
        latency={"cpu": Latency(samples=samples, provider="cpu")},
    )


def _one(measurements, targets=CPU, **budget):
    verdict = judge([Budget(**budget)], targets, measurements)
    assert len(verdict.budgets) == 1
    return verdict.budgets[0]


@pytest.mark.parametrize(
    ("budget", "outcome"),
    [
        ({"metric": "accuracy", "min": "85 %"}, "pass"),
        ({"metric": "accuracy", "min": "90 %"}, "inconclusive"),
        ({"metric": "accuracy", "min": "95 %"}, "fail"),
        ({"metric": "macro_f1", "min": "30 %"}, "pass"),
        ({"metric": "ece", "max": "5 %"}, "pass"),  # 0.9 right, 0.9 sure
        ({"metric": "ece", "max": 0.0}, "inconclusive"),
        ({"metric": "ece", "min": "5 %"}, "fail"),
        ({"metric": "agreement", "min": "97 %"}, "pass"),
        ({"metric": "agreement", "min": "99.9 %"}, "fail"),
        ({"metric": "accuracy", "max_drop": "3 %", "against": "finetune"}, "pass"),
        ({"metric": "accuracy", "max_drop": "1 %", "against": "finetune"}, "inconclusive"),
        ({"metric": "accuracy", "max_drop": "0.2 %", "against": "finetune"}, "fail"),
        ({"metric": "accuracy", "min_retained": "97 %", "against": "finetune"}, "pass"),
        ({"metric": "accuracy", "min_retained": "99.8 %", "against": "finetune"}, "fail"),
        ({"metric": "accuracy", "max_regression": "3 %", "against": "finetune"}, "pass"),
        ({"metric": "latency_p50", "max": "2 ms"}, "pass"),
        ({"metric": "latency_p50", "max": "1 ms"}, "inconclusive"),
        ({"metric": "latency_p95", "max": "0.5 ms"}, "fail"),
        ({"metric": "latency_p50", "min_speedup": "4x", "against": "finetune"}, "pass"),
        ({"metric": "latency_p50", "min_speedup": "5x", "against": "finetune"}, "inconclusive"),
        ({"metric": "latency_p90", "min_speedup": "6x", "against": "finetune"}, "fail"),
        ({"metric": "speedup", "min_speedup": "4x", "against": "finetune"}, "pass"),
        ({"metric": "speedup", "min": "6x"}, "fail"),
        ({"metric": "latency_p50", "max_regression": "5 %", "against": "finetune"}, "pass"),
        ({"metric": "size", "max": "20 MB"}, "pass"),
        ({"metric": "size", "max": "19 MB"}, "fail"),
        ({"metric": "size", "min_shrink": "4.5x", "against": "finetune"}, "pass"),
        ({"metric": "size", "min_shrink": "5x", "against": "finetune"}, "fail"),
        ({"metric": "size", "max_regression": "5 %", "against": "finetune"}, "pass"),
        ({"metric": "parameters", "min_shrink": "4x", "against": "finetune"}, "pass"),
        ({"metric": "memory", "max": "100 MB"}, "pass"),
        ({"metric": "memory", "min_shrink": "2x", "against": "finetune"}, "fail"),  # not measured
        ({"metric": "latency_p50", "min_speedup": "4x", "against": "quantize"}, "pass"),  # alias
    ],
)
def test_each_form_in_each_state(measurements, budget, outcome):
    found = _one(measurements, **budget)
    assert found.outcome == outcome, found.reason
    assert found.reason


def test_the_reason_of_a_speedup_has_its_numbers(measurements):
    found = _one(measurements, metric="latency_p50", min_speedup=6, against="finetune")
    low, high = f"{found.low:.2f}", f"{found.high:.2f}"
    assert found.low < found.value < found.high
    assert found.reason == (
        f"{found.value:.2f}× [{low}, {high}] faster than finetune on cpu; 6× was asked"
    )


def test_the_reason_of_a_size_has_both_sizes(measurements):
    found = _one(measurements, metric="size", min_shrink=5, against="finetune")
    assert found.reason == "4.5× smaller (20 MB against finetune's 90 MB); 5× was asked"


def test_a_slower_candidate_is_a_regression(measurements):
    """10 % more work on every call, against a 5 % margin."""
    measurements.latency["cpu"].samples["candidate"] = [
        [ms * 1.1 for ms in process] for process in _calls(5.0, seed=0)
    ]
    found = _one(measurements, metric="latency_p50", max_regression="5 %", against="finetune")
    assert found.outcome == "fail"
    assert found.value == pytest.approx(0.1, abs=0.01)


def test_the_same_model_twice_is_no_regression(measurements):
    measurements.latency["cpu"].samples["candidate"] = _calls(5.000001)
    found = _one(measurements, metric="latency_p50", max_regression="5 %", against="finetune")
    assert found.outcome == "pass"


def test_every_target_is_judged(measurements):
    measurements.latency["two"] = Latency(
        samples={"candidate": _calls(4.0), "finetune": _calls(5.0)}, threads=2
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


def test_a_target_that_was_not_timed_fails(measurements):
    found = _one(measurements, (Target(name="gpu"),), metric="latency_p50", max=2)
    assert found.outcome == "fail"
    assert "'gpu' was not timed" in found.reason


def test_an_unknown_metric_fails_and_names_the_known(measurements):
    found = _one(measurements, metric="latency_p5O", max=2)
    assert found.outcome == "fail"
    assert found.value is None
    assert "did you mean 'latency_p50'" in found.reason


def test_a_model_that_was_not_measured_fails(measurements):
    found = _one(measurements, metric="accuracy", max_drop="1 %", against="prune")
    assert found.outcome == "fail"
    assert found.reason == ("'prune' was not measured as a reference; measured: finetune, quantize")


def test_twenty_calls_carry_no_p99(measurements):
    measurements.latency["cpu"].samples["candidate"] = _calls(1.0, processes=1, calls=20)
    measurements.latency["cpu"].samples["finetune"] = _calls(5.0, processes=1, calls=20)
    found = _one(measurements, metric="latency_p99", max="10 s")
    assert found.outcome == "inconclusive"
    assert found.reason == "20 calls cannot carry a p99; time more rows"


def test_a_candidate_that_answers_nan_fails_even_without_a_budget(measurements):
    measurements.models["candidate"].probabilities[3] = [float("nan"), float("nan")]
    verdict = judge([], CPU, measurements)
    assert verdict.outcome == "fail"
    assert "NaN or infinity on 1 of 1000 rows" in verdict.budgets[0].reason
    accuracy = Budget(metric="accuracy", min=0.1)
    assert judge([accuracy], CPU, measurements).budgets[1].outcome == "fail"


def test_a_reference_that_answers_nan_is_nothing_to_compare_with(measurements):
    measurements.models["finetune"].probabilities[3] = [float("nan"), 1.0]
    found = _one(measurements, metric="accuracy", max_drop="3 %", against="finetune")
    assert found.outcome == "fail"
    assert "finetune answered NaN" in found.reason


def test_a_time_that_is_not_a_number_fails(measurements):
    measurements.latency["cpu"].samples["candidate"][0][0] = float("nan")
    assert _one(measurements, metric="latency_p50", max="10 s").outcome == "fail"


def test_a_reference_at_zero_gives_no_ratio(measurements):
    measurements.models["finetune"].probabilities = _share(0)
    found = _one(measurements, metric="accuracy", min_retained="97 %", against="finetune")
    assert found.outcome == "fail"
    assert found.value is None


def test_two_models_that_never_differ_on_few_rows_are_undecided(measurements):
    measurements.truth = [0] * 30
    for model in measurements.models.values():
        model.probabilities = _probabilities([True] * 30)
    for form in ({"max_drop": "1 %"}, {"min_retained": "99 %"}):
        found = _one(measurements, metric="accuracy", against="finetune", **form)
        assert found.outcome == "inconclusive", found.reason


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


def test_measurements_and_verdict_survive_json_with_nan(measurements):
    measurements.models["candidate"].probabilities[3] = [float("nan"), float("inf")]
    text = measurements.model_dump_json(by_alias=True)
    again = Measurements.model_validate_json(text)
    verdict = judge([Budget(metric="accuracy", min=0.1)], CPU, again)
    assert Verdict.model_validate_json(verdict.model_dump_json(by_alias=True)) == verdict
    assert verdict.outcome == "fail"


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
    assert verdict.budgets[0].reason.endswith(f"; but {THROTTLED}: undecided")
    assert verdict.budgets[0].value is not None
    assert verdict.evidence == [f"cpu: {THROTTLED}; its times carry no verdict"]
    assert verdict.exit_code(strict=False) == verdict.exit_code(strict=True) == 4


def test_cold_starts_are_those_of_the_first_target(measurements):
    measurements.models["candidate"].cold_start = [100.0, 101.0, 102.0, 103.0, 104.0, 105.0]
    measurements.latency["cpu"].throttled = THROTTLED
    verdict = judge([Budget(metric="cold_start", max="1 s")], CPU, measurements)
    assert verdict.outcome == verdict.budgets[0].outcome == "inconclusive"
    assert verdict.evidence == [f"cpu: {THROTTLED}; its times carry no verdict"]


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
    assert verdict.evidence == [f"two: {THROTTLED}; its times carry no verdict"]
    assert verdict.exit_code(strict=False) == 4


def test_a_throttled_target_is_nothing_to_budgets_that_ask_no_clock(measurements):
    measurements.latency["cpu"].throttled = THROTTLED
    verdict = judge([Budget(metric="size", max="20 MB")], CPU, measurements)
    assert (verdict.outcome, verdict.evidence) == ("pass", [])


def test_the_answers_of_another_provider_are_judged_too(measurements):
    """A GPU that rounds otherwise may lose what the CPU keeps; one that answers NaN fails."""
    targets = (Target(), Target(name="gpu", provider="cuda"))
    measurements.elsewhere = {"gpu": _share(0.80)}
    verdict = judge([Budget(metric="accuracy", min="85 %")], targets, measurements)
    assert [(b.target, b.outcome) for b in verdict.budgets] == [(None, "pass"), ("gpu", "fail")]
    measurements.elsewhere["gpu"][5] = [float("nan")] * 2
    assert judge([], targets, measurements).outcome == "fail"
    size = judge([Budget(metric="size", max="1 GB")], targets[:1], measurements).budgets
    assert [b.metric for b in size] == ["answers", "size"]


def test_a_time_that_was_never_taken_fails_on_a_throttled_target_too(measurements):
    measurements.latency["cpu"].throttled = THROTTLED
    found = _one(measurements, metric="speedup", min_speedup="2x", against="prune")
    assert found.outcome == "fail"
    assert "'prune' was not measured" in found.reason
