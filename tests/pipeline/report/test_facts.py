"""The numbers the report derives, against mathematics and scipy."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from pipeline.measure.measurements import CANDIDATE
from pipeline.report import facts
from tests.pipeline.report.factory import digest, report_data


def test_flips_count_who_alone_is_right_and_agree_with_an_exact_binomial_test() -> None:
    data = report_data()
    measured = data.measurements
    ours, theirs = (measured.models[m].probabilities for m in (CANDIDATE, "teacher"))
    lost = won = 0
    for mine, other, true in zip(ours, theirs, measured.truth, strict=True):
        lost += other[true] > 0.5 > mine[true]
        won += mine[true] > 0.5 > other[true]
    found = facts.flips(data)
    assert (found.lost, found.won, found.both_wrong) == (lost, won, 0)
    assert found.p == pytest.approx(binomtest(lost, lost + won).pvalue)
    assert sum(c.lost for c in found.classes) == lost
    assert sum(c.rows for c in found.classes) == len(measured.truth)


def test_the_share_kept_is_the_ratio_of_accuracies_inside_its_interval() -> None:
    kept = facts.retained(report_data())
    assert kept.value == pytest.approx(0.824 / 0.832)
    assert kept.low < kept.value < kept.high


def test_accuracy_has_a_wilson_interval() -> None:
    expected = binomtest(round(0.824 * 2500), 2500).proportion_ci(method="wilson")
    found = facts.accuracy(report_data(), CANDIDATE)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_a_percentile_needs_samples_beyond_it() -> None:
    ramp = [float(value) for value in range(1001)]
    assert facts.percentile(ramp, 99) == pytest.approx(990)
    assert facts.percentile(ramp[:100], 99) is None
    assert (
        1 - 0.99 ** facts.samples_needed(99) >= 0.975 > 1 - 0.99 ** (facts.samples_needed(99) - 1)
    )
    assert facts.percentile(ramp[:101], 50) == pytest.approx(50)


def test_the_pareto_front_leaves_out_what_another_model_beats_in_both() -> None:
    def point(name: str, latency: float, accuracy: float) -> facts.Point:
        return facts.Point(
            name, facts.Interval(latency, 0, 9), facts.Interval(accuracy, 0, 1), False
        )

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
