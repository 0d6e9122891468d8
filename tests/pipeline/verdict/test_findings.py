"""Each form of a budget in each outcome, and the reason given for it."""

from __future__ import annotations

import numpy as np
import pytest

from rarefy.pipeline.measure.measurements import Linear, Measurements, ModelMeasurement, Predicted
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.pipeline.verdict.findings import judge_one
from rarefy.pipeline.verdict.judge import judge
from tests.pipeline.verdict.measured import CPU, answers_right, answers_where, calls_of, one


def measured(models, rows, **more):
    """Return measurements of models without latencies, on rows that all have the first label."""
    task, labels = "text-classification", ["a", "b"]
    given = {"models": models, "truth": [0] * rows, "latency": {}} | more
    return Measurements(machine={}, task=task, labels=labels, **given)


def cold_starts(candidate, teacher):
    models = {
        name: ModelMeasurement(digest=name, size=1, cold_start=ms, answers=[[0.9, 0.1]])
        for name, ms in {"candidate": candidate, "teacher": teacher}.items()
    }
    return measured(models, 1)


FAST = [200.0, 204.0, 197.0, 310.0, 202.0, 199.0]
SLOW = [300.0, 309.0, 295.0, 470.0, 303.0, 299.0]


@pytest.mark.parametrize(
    ("budget", "outcome"),
    [
        ({"max": "400 ms"}, "pass"),
        ({"max": "250 ms"}, "inconclusive"),  # one start took longer
        ({"max": "190 ms"}, "fail"),
        ({"min_speedup": 1.4, "against": "teacher"}, "pass"),
        ({"min_speedup": 1.515, "against": "teacher"}, "inconclusive"),
        ({"min_speedup": 2, "against": "teacher"}, "fail"),
        ({"max_regression": "5 %", "against": "teacher"}, "pass"),
    ],
)
def test_budgets_on_the_cold_start(budget, outcome):
    asked = Budget(metric="cold_start", **budget)
    found = judge([asked], (Target(),), cold_starts(FAST, SLOW)).budgets[0]
    assert found.outcome == outcome, found.reason
    assert found.low < found.value < found.high


@pytest.mark.parametrize(
    "budget",
    [
        {"metric": "latency_p50", "max": "1 s"},
        {"metric": "latency_p50", "min_speedup": 2, "against": "finetune"},
        {"metric": "latency_p50", "max_regression": "5 %", "against": "finetune"},
        {"metric": "speedup", "min": 2},
    ],
)
def test_whoever_looked_more_often_is_as_sure_of_less(measurements, budget):
    def found(looks):
        timed = measurements.latency["cpu"].model_copy(update={"looks": looks})
        return one(measurements.model_copy(update={"latency": {"cpu": timed}}), **budget)

    once, often = found(1), found(20)
    assert once.value == often.value
    assert often.high - often.low > 1.2 * (once.high - once.low)


def test_a_slower_start_is_a_regression():
    asked = Budget(metric="cold_start", max_regression="10 %", against="teacher")
    found = judge([asked], (Target(),), cold_starts(SLOW, FAST)).budgets[0]
    assert found.outcome == "fail"
    assert found.value == pytest.approx(0.5, abs=0.03)
    assert "worse than teacher's" in found.reason


@pytest.mark.parametrize(
    ("ours", "theirs", "outcome", "reason"),
    [
        ([], SLOW, "fail", "cold start of candidate was not measured"),
        (FAST, [], "fail", "cold start of teacher was not measured"),
        (FAST[:5], SLOW[:5], "inconclusive", "measure 6 or more"),
        ([*FAST[:5], float("nan")], SLOW, "fail", "not a finite number"),
    ],
)
def test_too_little_or_nothing_measured_never_passes(ours, theirs, outcome, reason):
    asked = Budget(metric="cold_start", max_regression="5 %", against="teacher")
    found = judge([asked], (Target(),), cold_starts(ours, theirs)).budgets[0]
    assert found.outcome == outcome
    assert reason in found.reason


@pytest.mark.parametrize(
    ("budget", "outcome"),
    [
        ({"metric": "accuracy", "min": "85 %"}, "pass"),
        ({"metric": "accuracy", "min": "90 %"}, "inconclusive"),
        ({"metric": "accuracy", "min": "95 %"}, "fail"),
        ({"metric": "macro_f1", "min": "30 %"}, "pass"),
        ({"metric": "ece", "max": "5 %"}, "pass"),  # accuracy 0.9, confidence 0.9
        ({"metric": "ece", "max": 0.0}, "inconclusive"),
        ({"metric": "ece", "min": "5 %"}, "fail"),
        ({"metric": "agreement", "min": "97 %"}, "pass"),
        ({"metric": "agreement", "min": "99.9 %"}, "fail"),
        ({"metric": "kl", "max": 0.05}, "pass"),
        ({"metric": "kl", "max": 0.02}, "inconclusive"),
        ({"metric": "kl", "max": 0.005}, "fail"),
        ({"metric": "accuracy", "max_drop": "3 points", "against": "finetune"}, "pass"),
        ({"metric": "accuracy", "max_drop": "1 point", "against": "finetune"}, "inconclusive"),
        ({"metric": "accuracy", "max_drop": "0.2 points", "against": "finetune"}, "fail"),
        ({"metric": "accuracy", "min_retained": "97 %", "against": "finetune"}, "pass"),
        ({"metric": "accuracy", "min_retained": "99.8 %", "against": "finetune"}, "fail"),
        ({"metric": "accuracy", "max_regression": "3 %", "against": "finetune"}, "pass"),
        ({"metric": "latency_p50", "max": "2 ms"}, "pass"),
        ({"metric": "latency_p50", "max": "1 ms"}, "inconclusive"),
        ({"metric": "latency_p95", "max": "0.5 ms"}, "fail"),
        ({"metric": "latency_p50", "min_speedup": "3x", "against": "finetune"}, "pass"),
        ({"metric": "latency_p50", "min_speedup": "5x", "against": "finetune"}, "inconclusive"),
        ({"metric": "latency_p90", "min_speedup": "6x", "against": "finetune"}, "fail"),
        ({"metric": "speedup", "min_speedup": "3x", "against": "finetune"}, "pass"),
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
        ({"metric": "latency_p50", "min_speedup": "3x", "against": "quantize"}, "pass"),  # alias
    ],
)
def test_each_form_in_each_state(measurements, budget, outcome):
    found = one(measurements, **budget)
    assert found.outcome == outcome, found.reason
    assert found.reason


def test_a_reason_has_the_digits_that_decide(measurements):
    measurements.models["candidate"].size = 20_040_000
    found = one(measurements, metric="size", max="20 MB")
    assert (found.outcome, found.reason) == (
        "fail",
        "size is 20.04 MB; at most 20 MB is allowed",
    )


def test_the_reason_of_a_speedup_has_its_numbers(measurements):
    found = one(measurements, metric="latency_p50", min_speedup=6, against="finetune")
    low, high = f"{found.low:.2f}", f"{found.high:.2f}"
    assert found.low < found.value < found.high
    assert found.reason == (
        f"{found.value:.2f}× [{low}, {high}] faster than finetune on cpu; at least 6× is required"
    )


def test_the_reason_of_a_size_has_both_sizes(measurements):
    found = one(measurements, metric="size", min_shrink=5, against="finetune")
    assert found.reason == ("4.5× smaller than finetune (20 MB vs. 90 MB); at least 5× is required")


def test_the_reason_of_a_drop_has_its_bounds_and_the_margin(measurements):
    found = one(measurements, metric="accuracy", max_drop="1 point", against="finetune")
    low, high = 100 * found.low, 100 * found.high
    assert found.reason == (
        f"accuracy differs from finetune's by −1.00 points [−{high:.2f}, −{low:.2f}] (one-sided "
        "95% bounds); the non-inferiority margin is 1 point; inconclusive because the interval "
        "includes the limit"
    )


def test_a_reason_says_better_where_the_candidate_is(measurements):
    """20 MB is 77.78 % less than 90 MB; the value is a regression, so it is negative."""
    found = one(measurements, metric="size", max_regression="77.78 %", against="finetune")
    assert found.value == pytest.approx(20 / 90 - 1)
    assert found.reason == (
        "size is 77.8% better than finetune's (20 MB vs. 90 MB); "
        "a regression of at most 77.78% is allowed"
    )


def test_a_bound_beside_its_limit_has_the_digits_that_tell_them_apart(measurements):
    high = one(measurements, metric="accuracy", max_drop="1 point", against="finetune").high
    asked = {"metric": "accuracy", "max_drop": f"{100 * high + 0.001:.3f} points"}
    assert f"[−{100 * high:.3f}" in one(measurements, against="finetune", **asked).reason


def test_a_slower_candidate_is_a_regression(measurements):
    """10 % more work in every call, with a margin of 5 %."""
    measurements.latency["cpu"].samples["candidate"] = [
        [ms * 1.1 for ms in process] for process in calls_of(5.0, seed=0)
    ]
    found = one(measurements, metric="latency_p50", max_regression="5 %", against="finetune")
    assert found.outcome == "fail"
    assert found.value == pytest.approx(0.1, abs=0.01)


def test_the_same_model_twice_is_no_regression(measurements):
    calls = {"candidate": calls_of(5.000001, 20), "finetune": calls_of(5.0, 20)}
    measurements.latency["cpu"].samples = calls
    budget = {"metric": "latency_p50", "max_regression": "5 %", "against": "finetune"}
    assert one(measurements, **budget).outcome == "pass"
    for model in calls.values():
        del model[19:]
    found = one(measurements, **budget)
    assert found.outcome == "inconclusive", "one process in five may be slow, and none of 19 was"
    assert found.reason.endswith(
        "inconclusive because 19 processes may have missed slow ones: less than 25% from the "
        "limit, 20 are needed"
    )


@pytest.mark.parametrize(
    ("budget", "outcome"),
    [
        ({"metric": "latency_p50", "max": "1.2 ms"}, "inconclusive"),
        ({"metric": "latency_p50", "max": "1.6 ms"}, "pass"),
        ({"metric": "latency_p50", "min": "0.5 ms"}, "pass"),  # slow ones do not miss it
        ({"metric": "latency_p50", "min_speedup": "4.5x", "against": "finetune"}, "inconclusive"),
        ({"metric": "speedup", "min": "4.5x"}, "inconclusive"),
        ({"metric": "speedup", "max": "5.5x"}, "pass"),
    ],
)
def test_near_a_limit_few_processes_do_not_pass(measurements, budget, outcome):
    found = one(measurements, **budget)
    assert found.outcome == outcome, found.reason


def test_a_process_that_was_slow_is_said(measurements):
    """Every other process of five takes as long as the others, one half as long again."""
    samples = {"candidate": calls_of(1.0, 5), "finetune": calls_of(5.0, 5)}
    samples["candidate"][3] = [1.5 * ms for ms in samples["candidate"][3]]
    measurements.latency["cpu"].samples = samples
    found = one(measurements, metric="speedup", min_speedup="2x", against="finetune")
    assert "; the slowest of 5 processes took 1." in found.reason
    assert found.reason.endswith("times as long as most")
    assert found.outcome == "pass", "it meets the limit too"


def test_a_slow_process_must_meet_the_limit_too(measurements):
    """Of thirty processes two are slow: it may as well be a fifth of all."""
    samples = {"candidate": calls_of(5.000001, 30), "finetune": calls_of(5.0, 30)}
    for process in (3, 4):
        samples["candidate"][process] = [1.3 * ms for ms in samples["candidate"][process]]
    measurements.latency["cpu"].samples = samples
    found = one(measurements, metric="latency_p50", max_regression="20 %", against="finetune")
    assert found.high < 0.2
    assert found.outcome == "inconclusive"
    assert "; inconclusive because the slowest does not meet the limit" in found.reason
    loose = one(measurements, metric="latency_p50", max_regression="50 %", against="finetune")
    assert loose.outcome == "pass"


def test_a_slow_process_is_one_beside_the_model_of_the_budget(measurements):
    """The first reference was fast in one process, which makes no other model slow."""
    samples = {name: calls_of(5.0, 20, 150) for name in ("candidate", "other", "finetune")}
    samples["other"][3] = [ms / 1.5 for ms in samples["other"][3]]
    measurements.latency["cpu"].samples = samples
    found = one(measurements, metric="latency_p50", max_regression="5 %", against="finetune")
    assert found.outcome == "pass", found.reason


@pytest.mark.parametrize(
    ("limit", "disturbed", "outcome"),
    [
        ("0.8 ms", 0, "fail"),
        ("0.8 ms", 1, "fail"),  # one process of three
        ("0.8 ms", 2, "inconclusive"),
        ("0.4 ms", 3, "fail"),  # calls half as long would miss it too
    ],
)
def test_a_busy_machine_misses_no_limit_in_ms_narrowly(measurements, limit, disturbed, outcome):
    timed = measurements.latency["cpu"]
    timed.disturbed, timed.busy = disturbed, ["other processes used 1.5 of 2 cores"]
    found = one(measurements, metric="latency_p50", max=limit)
    assert found.outcome == outcome, found.reason
    said = "the machine was busy (other processes used 1.5 of 2 cores)" in found.reason
    assert said is (outcome == "inconclusive")


def test_a_busy_machine_is_no_excuse_for_a_regression(measurements):
    """Load takes the same from both."""
    timed = measurements.latency["cpu"]
    timed.disturbed, timed.busy = 3, ["other processes used 1.5 of 2 cores"]
    found = one(measurements, metric="latency_p50", min_speedup="6x", against="finetune")
    assert found.outcome == "fail"


def test_a_limit_in_ms_is_of_all_rows_like_those_timed(measurements):
    """Each row is timed in every process, so only the choice of rows is left to chance."""
    timed = measurements.latency["cpu"]
    row_ms = np.random.default_rng(0).lognormal(0, 0.5, 30)
    timed.samples["candidate"] = [row_ms.tolist()] * 20
    these = one(measurements, metric="latency_p50", max="1 s")
    timed.called = [list(range(30))] * 20
    like_these = one(measurements, metric="latency_p50", max="1 s")
    assert these.low == pytest.approx(these.high)
    assert like_these.high > 1.1 * like_these.value


@pytest.fixture
def cold(measurements):
    """With emptied caches, the candidate takes 3 ms and the reference 9."""
    times = {"candidate": 3.0, "finetune": 9.0}
    timed = measurements.latency["cpu"]
    timed.cold = {name: [[ms] * 16] * 5 for name, ms in times.items()}
    timed.cold_tokenizer = {name: [[0.5] * 16] * 5 for name in times}
    return measurements


@pytest.mark.parametrize(
    ("budget", "value", "outcome"),
    [
        ({"metric": "latency_p50", "max": "4 ms"}, 3, "pass"),
        ({"metric": "latency_p95", "max": "2 ms"}, 3, "fail"),
        ({"metric": "latency_p99", "max": "9 ms"}, None, "inconclusive"),  # 80 calls
        ({"metric": "end_to_end_p50", "max": "3.1 ms"}, 3.5, "fail"),
        ({"metric": "latency_p50", "min_speedup": "2.3x", "against": "finetune"}, 3, "pass"),
        ({"metric": "latency_p50", "max_regression": "5 %", "against": "finetune"}, -2 / 3, "pass"),
    ],
)
def test_budgets_on_cold_caches(cold, budget, value, outcome):
    found = one(cold, caches="cold", **budget)
    assert found.outcome == outcome, found.reason
    assert found.value == (value and pytest.approx(value))
    assert found.place == "cpu with cold caches"
    if value is not None:
        assert " on cpu with cold caches" in found.reason


@pytest.mark.parametrize(
    ("caches", "block", "outcome"),
    [
        ("warm", 1, "fail"),
        ("warm", 16, "inconclusive"),  # five blocks cannot be significant
        ("cold", 16, "fail"),  # each call found caches emptied, so none depends on the one before
    ],
)
def test_the_calls_of_a_block_are_one_observation(measurements, caches, block, outcome):
    """In 5 · 16 calls, with warm and with cold caches, the candidate takes 10 % longer."""
    calls = {
        "candidate": [[ms * 1.1 for ms in process] for process in calls_of(5.0, 5, 16)],
        "finetune": calls_of(5.000001, 5, 16),
    }
    timed = measurements.latency["cpu"]
    timed.samples, timed.cold, timed.block = calls, calls, block
    budget = {"metric": "latency_p50", "max_regression": "2 %", "against": "finetune"}
    found = one(measurements, caches=caches, **budget)
    assert found.outcome == outcome, found.reason


def test_measurements_of_earlier_versions_have_no_cold_caches(measurements):
    found = one(measurements, metric="latency_p50", max=2, caches="cold")
    assert found.outcome == "fail"
    assert found.reason == "candidate was not timed on cpu with cold caches"


def test_a_target_that_was_not_timed_fails(measurements):
    found = one(measurements, (Target(name="gpu"),), metric="latency_p50", max=2)
    assert found.outcome == "fail"
    assert "'gpu' was not timed" in found.reason


def test_an_unknown_metric_fails_and_names_the_known(measurements):
    found = one(measurements, metric="latency_p5O", max=2)
    assert found.outcome == "fail"
    assert found.value is None
    assert "did you mean 'latency_p50'" in found.reason


def test_a_model_that_was_not_measured_fails(measurements):
    found = one(measurements, metric="accuracy", max_drop="1 point", against="prune")
    assert found.outcome == "fail"
    assert found.reason == ("'prune' was not measured as a reference; measured: finetune, quantize")


def test_twenty_calls_carry_no_p99(measurements):
    measurements.latency["cpu"].samples["candidate"] = calls_of(1.0, processes=1, calls=20)
    measurements.latency["cpu"].samples["finetune"] = calls_of(5.0, processes=1, calls=20)
    found = one(measurements, metric="latency_p99", max="10 s")
    assert found.outcome == "inconclusive"
    assert found.reason == "20 calls are too few to estimate p99; time 368 or more"


def test_a_candidate_that_answers_nan_fails_even_without_a_budget(measurements):
    measurements.models["candidate"].answers[3] = [float("nan"), float("nan")]
    verdict = judge([], CPU, measurements)
    assert verdict.outcome == "fail"
    assert "NaN or infinity on 1 of 1000 rows" in verdict.budgets[0].reason
    accuracy = Budget(metric="accuracy", min=0.1)
    assert judge([accuracy], CPU, measurements).budgets[1].outcome == "fail"


def test_a_reference_that_answers_nan_is_nothing_to_compare_with(measurements):
    measurements.models["finetune"].answers[3] = [float("nan"), 1.0]
    found = one(measurements, metric="accuracy", max_drop="3 points", against="finetune")
    assert found.outcome == "fail"
    assert "finetune predicted NaN" in found.reason


def test_a_time_that_is_not_a_number_fails(measurements):
    measurements.latency["cpu"].samples["candidate"][0][0] = float("nan")
    assert one(measurements, metric="latency_p50", max="10 s").outcome == "fail"


@pytest.mark.parametrize(("right", "known"), [(4, True), (2, False), (0, False)])
def test_a_reference_that_is_rarely_right_decides_nothing(measurements, right, known):
    """Of 30 rows, a draw holds none of four that are right once in 70 times, of two in eight."""
    measurements.truth = [0] * 30
    for model in measurements.models.values():
        model.answers = answers_where(np.arange(30) < right)
    for form in ({"min_retained": "97 %"}, {"max_regression": "3 %"}):
        found = one(measurements, metric="accuracy", against="finetune", **form)
        assert found.outcome == "inconclusive", found.reason
        assert (found.value is not None) == known
        assert ("accuracy of finetune is too close to 0, or below," in found.reason) != known


def test_a_reference_at_zero_gives_no_ratio(measurements):
    measurements.models["finetune"].answers = answers_right(0)
    found = one(measurements, metric="accuracy", min_retained="97 %", against="finetune")
    assert found.outcome == "inconclusive"
    assert found.value is None


def test_two_models_that_never_differ_on_few_rows_are_undecided(measurements):
    measurements.truth = [0] * 30
    for model in measurements.models.values():
        model.answers = answers_where([True] * 30)
    for form in ({"max_drop": "1 point"}, {"min_retained": "99 %"}):
        found = one(measurements, metric="accuracy", against="finetune", **form)
        assert found.outcome == "inconclusive", found.reason


@pytest.mark.parametrize(("limit", "outcome"), [("3 points", "pass"), ("0.2 points", "fail")])
def test_agreement_without_labels_may_drop_against_a_baseline(measurements, limit, outcome):
    """The candidate agrees on 98 % of the rows, the baseline on 99 %: ours loses 20 of 2,000."""
    truth = [0, 1] * 1000
    models = dict(measurements.models)
    for name, lost in (("candidate", 40), ("finetune", 20)):
        given = [1 - label if row < lost else label for row, label in enumerate(truth)]
        table = [[1.0 - label, float(label)] for label in given]
        models[name] = models[name].model_copy(update={"answers": table})
    changes = {"unlabelled": True, "truth": truth, "models": models}
    found = one(
        measurements.model_copy(update=changes),
        metric="agreement",
        max_drop=limit,
        against="finetune",
    )
    assert found.outcome == outcome, found.reason
    assert found.value == pytest.approx(0.01)


def beside_linear(candidate, rival):
    """Measurements of a candidate and a linear model that are right on these rows."""
    models = {
        name: ModelMeasurement(digest=name, size=1, answers=answers_where(right))
        for name, right in {"candidate": candidate, "teacher": candidate}.items()
    }
    beside = Linear(size=1, seconds=1, rows=1, milliseconds=[0.1], answers=answers_where(rival))
    return measured(models, len(candidate), linear=beside)


@pytest.mark.parametrize(
    ("ours", "theirs", "outcome"),
    [
        (900, 800, "pass"),
        (801, 800, "inconclusive"),
        (800, 800, "inconclusive"),
        (799, 800, "inconclusive"),
        (700, 800, "fail"),
    ],
)
def test_a_candidate_that_the_linear_model_surely_beats_fails_whatever_it_keeps(
    ours, theirs, outcome
):
    rows = 1000
    measurements = beside_linear(
        [at < ours for at in range(rows)], [at < theirs for at in range(rows)]
    )
    budget = Budget(metric="accuracy", min_retained="97 %", against="teacher")
    assert judge_one(budget, None, measurements).outcome == "pass"
    found = judge([], (Target(),), measurements)
    (beaten,) = found.budgets
    assert (beaten.metric, beaten.against, beaten.outcome) == ("accuracy", "linear", outcome)
    assert found.outcome == outcome
    assert beaten.value == pytest.approx((theirs - ours) / rows)
    assert ("the linear model is better" in beaten.reason) == (outcome == "fail")
    assert ("more eval rows would tell" in beaten.reason) == (outcome == "inconclusive")


def test_without_a_linear_model_nothing_is_said_of_one():
    alone = beside_linear([True] * 10, [True] * 10).model_copy(update={"linear": None})
    assert judge([], (Target(),), alone).budgets == []


def test_a_linear_baseline_can_be_a_warning_only():
    beside = beside_linear([True] * 700 + [False] * 300, [True] * 800 + [False] * 200)
    beside.linear.level = "warn"
    found = judge([], (Target(),), beside)
    (beaten,) = found.budgets
    assert (beaten.outcome, beaten.level, beaten.name) == ("fail", "warn", "linear baseline")
    assert found.outcome == "pass"


def test_predictions_of_a_file_are_compared_by_their_answers_alone():
    models = {"candidate": ModelMeasurement(digest="c", size=1, answers=answers_right(0.9))}
    others = {"label": Predicted(digest="l", answers=answers_right(0.8))}
    found = measured(models, len(answers_right(0.9)), predicted=others)
    drop = one(found, metric="accuracy", max_drop=0.01, against="label")
    assert (drop.outcome, drop.value) == ("pass", pytest.approx(-0.1))
    size = one(found, metric="size", min_shrink=2, against="label")
    assert (size.outcome, size.reason) == ("fail", "label was not measured")
    broken = others | {"label": Predicted(digest="l", answers=[[0.9, 0.1]])}
    drop = one(
        found.model_copy(update={"predicted": broken}),
        metric="accuracy",
        max_drop=0.01,
        against="label",
    )
    assert (drop.outcome, drop.value) == ("fail", None)
