"""Judge a recipe's budgets against its measurements and return the verdict."""

from __future__ import annotations

from collections.abc import Sequence

from rarefy.pipeline.measure.measurements import CANDIDATE, Measurements
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.terms.metrics import METRICS
from rarefy.pipeline.terms.outcomes import worst
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.pipeline.verdict import findings
from rarefy.pipeline.verdict.footing import Footing
from rarefy.pipeline.verdict.verdict import Verdict


def judge(
    budgets: Sequence[Budget],
    targets: Sequence[Target],
    measurements: Measurements,
    *,
    trusted: bool = False,
) -> Verdict:
    """Judge every budget on every target that it applies to.

    A budget that cannot be judged fails, and its reason says why. A candidate that answers NaN or
    infinity fails the verdict, whatever the budgets are. If a target was throttled during the
    measurement and a budget of level error needs its timings, ``evidence`` says so and the verdict
    cannot pass. Budgets against a model that has learned nothing are inconclusive, unless all are
    ``trusted``. If a linear model was measured, a candidate that does not beat it fails as well.
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
        if budget.level == "error":
            clocked |= {place for place in places if timed}
            if known is not None and known.kind == "cold_start":
                clocked.add(targets[0].name)
        results += [findings.judge_one(budget, place, measurements) for place in places]
    if not trusted:
        footing = Footing(measurements)
        results = [footing.check(result) for result in results]
    if beside := findings.beaten(measurements):
        results.append(beside)
    outcome = worst(result.outcome for result in results if result.level == "error") or "pass"
    evidence = [
        f"{name}: {timed.throttled}; its timings cannot support a verdict"
        for name, timed in measurements.latency.items()
        if timed.throttled and name in clocked
    ]
    if evidence and outcome == "pass":
        outcome = "inconclusive"
    candidate = measurements.models.get(CANDIDATE)
    digest = candidate.digest if candidate else None
    return Verdict(outcome=outcome, bundle=digest, budgets=results, evidence=evidence)
