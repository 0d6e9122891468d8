"""A recipe's budgets against its measurements: the verdict."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.measure.measurements import Measurements
from pipeline.terms.budget import Budget
from pipeline.terms.metrics import METRICS
from pipeline.terms.outcomes import worst
from pipeline.terms.vocabulary import Target
from pipeline.verdict import findings
from pipeline.verdict.verdict import Verdict


def judge(
    budgets: Sequence[Budget], targets: Sequence[Target], measurements: Measurements
) -> Verdict:
    """Evaluate every budget on every target that it applies to.

    A budget that cannot be evaluated fails with its reason. A candidate that answers NaN fails
    the verdict, whatever the budgets are. A target that was throttled half way carries no verdict
    on the times that budgets ask of it: that is said in ``evidence``, and nothing passes.
    """
    results, clocked = [], set()
    answering = [None, *measurements.elsewhere]
    for place in answering:
        if broken := findings.broken_answers(measurements.on(place)):
            results.append(broken)
    for budget in budgets:
        known = METRICS.get(budget.metric)
        timed = known is not None and known.timed
        answered = known is not None and known.from_rows
        everywhere: list[str | None] = answering if answered else [None]
        everywhere = [target.name for target in targets] if timed else everywhere
        places = [budget.target] if budget.target else everywhere
        clocked |= {place for place in places if timed}
        if known is not None and known.kind == "cold_start":
            clocked.add(targets[0].name)
        results += [findings.judge_one(budget, place, measurements) for place in places]
    outcome = worst(result.outcome for result in results if result.level == "error") or "pass"
    evidence = [
        f"{name}: {timed.throttled}; its times carry no verdict"
        for name, timed in measurements.latency.items()
        if timed.throttled and name in clocked
    ]
    if evidence and outcome == "pass":
        outcome = "inconclusive"
    return Verdict(outcome=outcome, budgets=results, evidence=evidence)
