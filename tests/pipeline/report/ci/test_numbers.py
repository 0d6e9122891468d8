"""The numbers that all formats share: no format breaks if there are none."""

from __future__ import annotations

import json
import math

import pytest

from pipeline.measure import scores
from pipeline.report import facts
from pipeline.report.ci import openmetrics, trackers
from pipeline.report.ci.numbers import measured
from pipeline.terms.budget import Budget
from pipeline.terms.vocabulary import Target
from pipeline.verdict.judge import judge
from tests.pipeline.report.ci.budgets import samples
from tests.pipeline.report.factory import measurements, report_data


def test_a_candidate_that_answers_nan_breaks_no_format() -> None:
    broken = measurements().model_copy(deep=True)
    broken.models["candidate"].answers[0] = [math.nan, math.nan]
    broken.latency["cpu"].samples["candidate"][0][0] = math.nan
    data = report_data(measurements=broken)
    numbers = measured(data)
    timed = {n.target for n in numbers if n.model == "candidate" and n.metric == "latency_p50"}
    assert timed == {"cpu-all"}
    assert samples(openmetrics.render(data, numbers))
    for text in (
        trackers.bencher(data, numbers),
        trackers.benchmark_action(data, numbers, False),
    ):
        json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_agreement_of_words_is_the_verdict_s_own() -> None:
    """A flip is a sentence there, so flips say nothing about the share of words."""
    plain = measurements(rows=50)
    truth: list[dict[str, list[object]]] = [{"tags": [0] * 5} for _ in range(10)]
    truth[0]["names"] = ["O", "B-X"]
    tagged = plain.model_copy(update={"task": "token-classification", "truth": truth, "slices": {}})
    data = report_data(measurements=tagged)
    ours, theirs = tagged.table("candidate"), tagged.table(str(facts.reference(data)))
    same = scores.agreement(tagged.scored_by, ours, theirs, truth)
    (found,) = (number for number in measured(data) if number.metric == "agreement")
    assert (found.value, found.low, found.high) == same
    assert found.value == (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean()


def test_speedup_and_agreement_are_the_verdict_s_own() -> None:
    """Also where most budgets name another model, as those of ``ci --baseline`` do."""
    found = measurements(60, 400, 3)
    asked = [Budget(metric="speedup", min="2x"), Budget(metric="agreement", min="50 %")]
    asked += [
        Budget(metric="latency_p50", max_regression="5 %", against="prune"),
        Budget(metric="size", max_regression="5 %", against="prune"),
        Budget(metric="accuracy", max_drop="1 %", against="prune"),
    ]
    verdict = judge(asked, [Target()], found)
    data = report_data(measurements=found, verdict=verdict)
    assert facts.reference(data) == "prune"
    numbers = {n.metric: n.value for n in measured(data) if n.target in ("cpu", None)}
    for budget in verdict.budgets[:2]:
        assert numbers[budget.metric] == pytest.approx(budget.value)
