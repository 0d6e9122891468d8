"""Numbers that the report derives, checked against mathematics and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from rarefy.pipeline.measure.measurements import CANDIDATE, FASTEST_FLOAT, Linear, Measurements
from rarefy.pipeline.measure.predictions import predict as accuracy
from rarefy.pipeline.report import facts, headline, html, markdown
from rarefy.pipeline.tasks.classification.text import TEXT_CLASSIFICATION
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.pipeline.verdict import history
from rarefy.pipeline.verdict.judge import judge
from tests.pipeline.report.factory import digest, measurements, report_data


def test_flips_count_who_alone_is_right_and_agree_with_an_exact_binomial_test() -> None:
    data = report_data()
    measured = data.measurements
    ours, theirs = (measured.models[m].answers for m in (CANDIDATE, "teacher"))
    lost = won = 0
    for mine, other, true in zip(ours, theirs, measured.truth, strict=True):
        lost += other[true] > 0.5 > mine[true]
        won += mine[true] > 0.5 > other[true]
    flips = facts.flips(data)
    assert (flips.lost, flips.won, flips.both_wrong) == (lost, won, 0)
    assert flips.p == pytest.approx(binomtest(lost, lost + won).pvalue)
    assert sum(c.lost for c in flips.classes) == lost
    assert sum(c.rows for c in flips.classes) == len(measured.truth)


def test_the_share_kept_is_the_ratio_of_accuracies_inside_its_interval() -> None:
    kept = facts.retained(report_data())
    assert kept.value == pytest.approx(0.824 / 0.832)
    assert kept.low < kept.value < kept.high


def test_accuracy_has_a_wilson_interval() -> None:
    expected = binomtest(round(0.824 * 2500), 2500).proportion_ci(method="wilson")
    score = facts.accuracy(report_data(), CANDIDATE)
    assert (score.low, score.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_a_percentile_needs_samples_beyond_it() -> None:
    ramp = [float(value) for value in range(1001)]
    assert facts.percentile([ramp[:500], ramp[500:]], 99) == pytest.approx(990)
    assert facts.percentile([ramp[:100]], 99) is None
    assert facts.percentile([ramp[:101]], 50) == pytest.approx(50)
    assert facts.median([[3.0, 1.0], [2.0]]) == 2
    assert facts.median([[]]) is None


def test_the_pareto_front_leaves_out_what_another_model_beats_in_both() -> None:
    def point(name: str, latency: float, accuracy: float) -> facts.Point:
        return facts.Point(name, Interval(latency, 0, 9), Interval(accuracy, 0, 1), False)

    models = [
        point("slow", 5, 0.8),
        point("best", 6, 0.9),
        point("fast", 1, 0.7),
        point("bad", 7, 0.6),
    ]
    assert [p.name for p in facts.pareto(models)] == ["fast", "slow", "best"]


def test_the_delivered_stage_is_the_bundle_that_was_measured() -> None:
    data = report_data()
    assert facts.candidate_row(data).digest == digest("export")
    assert facts.reference(data) == "teacher"


def _everywhere(metric: str) -> dict[str, tuple[float, float, float]]:
    """Return the candidate's number and interval from each place that shows them."""
    data = report_data()
    measured = data.measurements
    answers = np.asarray(measured.models[CANDIDATE].answers)
    task = TEXT_CLASSIFICATION.bind(("negative", "positive"), 128, ("text",))
    noted = {
        m.name: m
        for m in accuracy.metrics(task, task.scorer.scores, answers, measured.truth, "eval")
    }
    budget = Budget(metric=metric, max=1)
    judged = judge([budget], [Target(name="cpu")], measured).budgets[0]
    intervals = {"verdict": judged, "ledger": noted.get(metric)}
    plain = history.plain_numbers(measured)
    ours = (n for n in plain if n.metric == metric and n.target in (None, "cpu"))
    intervals["history"] = next(ours, None)
    (point,) = [p for p in facts.points(data, "cpu") if p.candidate]
    intervals["trade-off"] = {"accuracy": point.accuracy, "latency_p50": point.latency}.get(metric)
    places = ("ledger", "verdict", "history", "trade-off")
    return {p: (f.value, f.low, f.high) for p in places if (f := intervals.get(p)) is not None}


@pytest.mark.parametrize(
    ("metric", "places"),
    [("accuracy", 4), ("latency_p50", 3), ("macro_f1", 2), ("ece", 2)],
)
def test_a_number_has_the_same_interval_wherever_it_is_shown(metric: str, places: int) -> None:
    intervals = _everywhere(metric)
    assert len(intervals) == places
    for place, interval in intervals.items():
        assert interval == pytest.approx(intervals["verdict"], abs=1e-12), place


def test_what_needs_no_model_stands_beside_those_of_a_task_that_has_it() -> None:
    data = report_data()
    assert facts.without_model(data) is None
    truth = [{"documents": [at], "bm25": at / 4} for at in range(5)]
    searched = data.measurements.model_copy(update={"task": "sentence-embeddings", "truth": truth})
    assert facts.without_model(data.model_copy(update={"measurements": searched})) == ("BM25", 0.5)


def test_rows_in_groups_are_counted_with_them() -> None:
    data = report_data()
    assert facts.evaluated(data) == "2,500 eval rows"
    sure = facts.retained(data)
    measured = data.measurements.model_copy(update={"groups": [row // 25 for row in range(2500)]})
    grouped = data.model_copy(update={"measurements": measured})
    assert facts.evaluated(grouped) == "2,500 eval rows in 100 groups"
    assert facts.test(grouped) == "Fisher’s exact test by groups" != facts.test(data)
    kept = facts.retained(grouped)
    assert kept.value == pytest.approx(sure.value)
    assert kept != sure


def test_a_target_of_another_provider_is_drawn_with_its_own_score() -> None:
    """Targets with one provider share its answers."""
    measured = measurements(60, 400, 3).model_copy(deep=True)
    wrong = [list(reversed(answer)) for answer in measured.models["candidate"].answers]
    other = measured.latency["cpu"].model_copy(update={"provider": "openvino"})
    measured.elsewhere = {"gpu": wrong}
    measured.latency |= {"gpu": other, "gpu-4": other.model_copy(update={"threads": 4})}
    data = report_data(measurements=measured)
    share = {
        target: next(p.accuracy.value for p in facts.points(data, target) if p.candidate)
        for target in ("cpu", "gpu", "gpu-4")
    }
    assert share["gpu"] == share["gpu-4"] == pytest.approx(1 - share["cpu"])


def with_openvino(pace: float, precision: str) -> Measurements:
    """The factory's run, with the teacher in OpenVINO at ``pace`` times its ms in ONNX Runtime."""
    measured = measurements().model_copy(deep=True)
    teacher = measured.models["teacher"]
    measured.models[FASTEST_FLOAT] = teacher.model_copy(update={"precision": precision})
    for timed in measured.latency.values():
        own = [[pace * call for call in calls] for calls in timed.samples["teacher"]]
        timed.samples[FASTEST_FLOAT] = own
    return measured


def test_openvino_is_named_with_its_precision_if_it_is_faster() -> None:
    measured = with_openvino(0.5, "bf16")
    line = facts.float_speedup(measured, "cpu")
    assert line is not None
    assert line.endswith("of teacher, OpenVINO in bf16 (timed together with ONNX Runtime in fp32)")
    plain = measured.latency["cpu"].ratio("teacher", "candidate").value
    assert float(line.partition("×")[0]) == pytest.approx(plain / 2, rel=0.01)


def test_onnx_runtime_is_named_if_it_is_faster() -> None:
    line = facts.float_speedup(with_openvino(1.5, "fp32"), "cpu")
    assert line is not None
    assert "of teacher, ONNX Runtime in fp32 (timed together with OpenVINO in fp32)" in line


def test_every_target_has_a_line_and_the_pages_have_the_first() -> None:
    data = report_data(measurements=with_openvino(0.5, "bf16"))
    assert data.measurements is not None
    lines = facts.float_speedups(data.measurements)
    assert [line.split(":")[0] for line in lines] == ["speed on cpu", "speed on cpu-all"]
    line = facts.float_speedup(data.measurements, "cpu")
    assert line in headline.build(data).numbers[0].detail
    assert "OpenVINO in bf16" in markdown.render(data)
    assert html.render(data).count("the fastest floating-point configuration of teacher") == 3


def test_nothing_is_said_if_openvino_was_not_timed() -> None:
    assert facts.float_speedup(measurements(), "cpu") is None
    assert facts.float_speedups(measurements()) == facts.float_speedups(None) == []
    assert "fastest float" not in html.render(report_data())


def with_linear() -> Measurements:
    measured = measurements().model_copy(deep=True)
    answers = measured.models["candidate"].answers
    measured.linear = Linear(
        size=3_100_000, seconds=4.2, rows=8070, milliseconds=[0.1, 0.2, 9.0], answers=answers
    )
    return measured


def test_its_line_has_score_time_size_and_training() -> None:
    measured = with_linear()
    line = facts.linear_line(measured)
    assert line is not None
    shown = measured.score("accuracy", "candidate")
    assert line.startswith(f"{facts.LINEAR_MODEL}: accuracy {100 * shown.value:.4g}")
    assert line.endswith("0.2 ms from text to prediction, 3.1 MB, trained in 4 s on 8,070 rows")


def test_its_row_in_the_ledger_is_no_model_of_a_stage() -> None:
    measured = with_linear()
    row = facts.linear_row(measured)
    assert row is not None
    assert (row.id, row.kind, row.parameters) == ("linear", "linear", None)
    assert row.accuracy is not None
    assert row.accuracy[0] == pytest.approx(measured.score("accuracy", "candidate").value)


def test_all_pages_say_it_and_nothing_is_said_without_one() -> None:
    data = report_data().model_copy(update={"measurements": with_linear()})
    line = str(facts.linear_line(data.measurements))
    assert line[1:] in html.render(data)
    assert "trained in 4 s" in markdown.render(data)
    assert facts.linear_line(measurements()) is facts.linear_row(measurements()) is None
    assert facts.linear_line(None) is None


def test_its_score_is_as_unsure_of_groups_as_the_others() -> None:
    measured = with_linear()
    sure = facts.linear_score(measured)
    measured.groups = [row // 25 for row in range(len(measured.truth))]
    assert facts.linear_score(measured) == measured.score("accuracy", "candidate") != sure


def test_all_pages_say_how_many_rows_thresholds_leave_undecided() -> None:
    measured = measurements().model_copy(deep=True)
    assert facts.decided_line(measured) is facts.decided_line(None) is None
    table = measured.table(CANDIDATE)
    limit = float(np.median(table.max(axis=1)))
    measured.thresholds = dict.fromkeys(measured.labels, limit)
    left = table.max(axis=1) < limit
    correct = measured.right(CANDIDATE)[~left]
    line = facts.decided_line(measured)
    assert line is not None
    assert f"leave {100 * left.mean():.1f}% [" in line
    assert f"of the others, {100 * correct.mean():.1f}% [" in line
    data = report_data().model_copy(update={"measurements": measured})
    assert line in html.render(data)
    assert "of the eval rows undecided" in markdown.render(data)


def test_a_bundle_that_decides_nothing_is_not_said_to_be_right() -> None:
    measured = measurements().model_copy(deep=True)
    measured.thresholds = dict.fromkeys(measured.labels, None)
    line = facts.decided_line(measured)
    assert line is not None
    assert line.startswith("Thresholds leave 100.0% [")
    assert line.endswith("of the eval rows undecided.")
