"""The verdict in one sentence and three numbers."""

from __future__ import annotations

from html import unescape

import pytest

from rarefy.pipeline.measure.measurements import ModelMeasurement
from rarefy.pipeline.report import headline, html, markdown, wording
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.verdict.verdict import Verdict
from tests.pipeline.report.ci.budgets import budgets
from tests.pipeline.report.factory import report_data


def test_the_three_numbers_are_ratios_of_what_was_measured() -> None:
    data = report_data()
    speed, size, kept = headline.build(data).numbers
    models = data.measurements.models
    assert size.figure == f"{models['teacher'].size / models['candidate'].size:.2f}×"
    assert (speed.meaning, size.meaning) == ("faster", "smaller")
    assert size.interval is None, "a size is exact"
    assert float(speed.figure.rstrip("×")) == pytest.approx(6.4 / 1.05, rel=0.05)
    assert kept.figure.startswith(f"{100 * 0.824 / 0.832:.1f}")


def test_a_tagged_bundle_is_not_said_to_be_fp32() -> None:
    data = report_data().model_copy(deep=True)
    assert "(teacher in fused fp32 ONNX Runtime)" in headline.build(data).numbers[0].detail
    data.measurements.baselines["teacher"] = "a" * 64
    assert "(teacher as tagged), on cpu" in headline.build(data).numbers[0].detail


def test_no_share_is_retained_of_a_reference_that_has_learned_nothing() -> None:
    data = report_data()
    truth = data.measurements.truth
    guesses = [[1.0, 0.0]] * len(truth)
    models = dict(data.measurements.models)
    models["teacher"] = models["teacher"].model_copy(update={"answers": guesses})
    measured = data.measurements.model_copy(update={"models": models})
    kept = headline.build(data.model_copy(update={"measurements": measured})).numbers[-1]
    assert (kept.figure, kept.meaning, kept.interval) == ("–", "of accuracy retained", None)
    assert kept.detail.startswith("teacher is no better than a trivial baseline: its accuracy of ")


@pytest.mark.parametrize(("rows", "right", "shown"), [(10, 4, True), (30, 3, False)])
def test_a_share_without_bounds_has_no_interval(rows: int, right: int, shown: bool) -> None:
    """Each row has a label of its own; a draw may hold none that the reference has right."""
    given = [row if row < right else (row + 1) % rows for row in range(rows)]
    answers = [[float(label == one) for label in range(rows)] for one in given]
    models = {
        name: ModelMeasurement(digest=name, size=1, answers=answers)
        for name in ("candidate", "teacher")
    }
    data = report_data(verdict=None)
    changes = {"models": models, "truth": list(range(rows)), "latency": {}, "slices": {}}
    measured = data.measurements.model_copy(update=changes)
    kept = headline.build(data.model_copy(update={"measurements": measured})).numbers[-1]
    assert kept.figure.startswith("100.0")
    assert (kept.interval is not None) == shown
    assert "nan" not in str(kept)


def test_rankings_are_counted_in_queries() -> None:
    """A hundred queries of two rows each, all but one of them right."""
    truth = [[grade, query] for query in range(100) for grade in (1.0, 0.0)]
    right = [[1.0], [0.0]] * 100
    answers = {"candidate": [[0.0], [1.0], *right[2:]], "teacher": right}
    data = report_data()
    models = {
        name: ModelMeasurement(digest=name, size=9, answers=rows) for name, rows in answers.items()
    }
    changes = {"task": "regression", "labels": [], "truth": truth, "models": models}
    changes |= {"latency": {}, "slices": {"part": ["a", "b"] * 50}, "samples": []}
    measured = data.measurements.model_copy(update=changes)
    ranked = data.model_copy(update={"measurements": measured, "verdict": None})
    kept = headline.build(ranked).numbers[-1]
    assert kept.meaning == "of ndcg@10 retained"
    assert kept.detail.endswith("(teacher), on 100 eval queries")
    page = html.render(ranked)
    assert "100 eval queries" in page
    assert "eval rows" not in page
    assert '<th class="n">Queries</th>' in page


def test_the_sentence_counts_the_budgets() -> None:
    found = budgets()
    data = report_data(verdict=Verdict(outcome="fail", budgets=found))
    said = headline.build(data)
    kept = sum(budget.outcome == "pass" for budget in found)
    missed = sum(budget.outcome == "fail" for budget in found)
    assert said.outcome == "fail"
    assert said.sentence.startswith(f"{kept} of {len(found)} budgets met; {missed} missed")
    assert said.sentence.endswith(
        f"{len(found) - kept - missed} inconclusive (1 as a warning only)."
    )


def test_without_a_verdict_it_says_what_is_lacking() -> None:
    bare = headline.build(report_data(verdict=None, measurements=None))
    assert (bare.outcome, bare.numbers) == (None, ())
    assert "Add the stage validate" in bare.sentence
    measured = headline.build(report_data(verdict=None))
    assert "no budgets" in measured.sentence


def test_the_first_release_says_with_what_nothing_was_compared() -> None:
    assert headline.first_release([]) == ""
    said = headline.first_release(["canary", "production"])
    assert said.endswith("nothing was compared with canary and production, which do not exist yet.")


@pytest.mark.parametrize(
    ("outcome", "level", "sentence"),
    [
        ("pass", "error", "All 2 budgets met; better than the linear baseline."),
        ("fail", "warn", "All 2 budgets met. The linear baseline is at least as good."),
    ],
)
def test_the_linear_baseline_is_counted_as_no_budget(
    outcome: str, level: str, sentence: str
) -> None:
    met = {"metric": "size", "form": "max", "limit": 5, "outcome": "pass", "reason": "small"}
    beaten = {"metric": "accuracy", "form": "max_drop", "limit": 0, "against": "linear"}
    beaten |= {"outcome": outcome, "level": level, "reason": "as measured"}
    verdict = Verdict.model_validate({"outcome": "pass", "budgets": [met, met, beaten]})
    data = report_data().model_copy(update={"verdict": verdict})
    assert headline.build(data).sentence == sentence
    assert wording.requirement(verdict.budgets[-1]) == "above the linear baseline"


def test_what_is_not_met_is_named_the_missed_first_each_with_advice() -> None:
    data = report_data(verdict=Verdict(outcome="fail", budgets=budgets()))
    unmet = headline.build(data).unmet
    assert [line.outcome for line in unmet] == ["fail"] * 4 + ["inconclusive"] * 3
    first = unmet[0]
    assert (first.title, first.warning) == ("Latency p50 on cpu-all", False)
    assert first.requirement == "at least 9× faster than teacher"
    assert "prune" in first.advice.text
    assert unmet[3].warning, "the size, of level warn, comes after what decides the verdict"
    page = unescape(html.render(data))
    banner = page[page.index('class="unmet"') : page.index('class="numbers"')]
    for line in unmet:
        assert line.title in banner
        assert line.advice.text[1:] in banner


def test_a_number_whose_interval_includes_no_change_is_grey() -> None:
    clear = headline.comparison(Interval(2.0, 1.5, 2.5), "faster", "slower", "")
    assert clear.clear
    unclear = headline.comparison(Interval(0.9, 0.5, 1.2), "faster", "slower", "")
    assert (unclear.figure, unclear.meaning, unclear.clear) == ("1.11×", "slower", False)
    exact = headline.comparison(Interval(1.0, 1.0, 1.0), "smaller", "larger", "")
    assert exact.clear


def test_a_busy_machine_is_said_beside_the_speed() -> None:
    data = report_data().model_copy(deep=True)
    assert headline.build(data).numbers[0].caution is None
    assert data.measurements is not None
    data.measurements.latency["cpu"].busy += ["a load", "another", "a third"]
    speed = headline.build(data).numbers[0]
    assert speed.caution == "busy machine: a load; 2 more notes below"
    assert "⚠ busy machine: a load" in markdown.render(data)


def test_the_only_budget_is_named_without_counting() -> None:
    missed = {"metric": "size", "form": "max", "limit": 5, "outcome": "fail", "reason": "large"}
    verdict = Verdict.model_validate({"outcome": "fail", "budgets": [missed]})
    data = report_data().model_copy(update={"verdict": verdict})
    assert headline.build(data).sentence == "The only budget is missed."


def test_what_is_retained_has_one_interval_in_banner_and_table() -> None:
    data = report_data()
    assert data.verdict is not None
    share = headline.build(data).numbers[-1]
    assert share.bounds == "one-sided 95% bounds"
    assert share.interval == wording.interval(data.verdict.budgets[0])
    unjudged = headline.build(report_data(verdict=None)).numbers[-1]
    assert unjudged.bounds == "95% confidence interval"
