"""Judge a recipe's budgets against its measurements and return the verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rarefy.pipeline.measure.measurements import CANDIDATE, Latency, Measurements
from rarefy.pipeline.measure.predictions import floor
from rarefy.pipeline.measure.rows_per_second import Throughput
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.terms.metrics import find, known
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.pipeline.verdict import between_sessions, cells, findings
from rarefy.pipeline.verdict.between_sessions import Spread, Timed
from rarefy.pipeline.verdict.verdict import BudgetResult, Verdict, combine

COMPARED = ("agreement", "divergence", "speedup")
"""The kinds of metrics that compare with the first reference if the budget does not say which."""


def judge(
    budgets: Sequence[Budget],
    targets: Sequence[Target],
    measurements: Measurements,
    sessions: Mapping[Timed, Spread] | None = None,
) -> Verdict:
    """Judge every budget on every target that it applies to.

    A budget that cannot be judged fails, and its reason says why. A candidate that answers NaN or
    infinity fails the verdict, whatever the budgets are. If a target was throttled during the
    measurement and a budget of level error needs its timings, ``evidence`` says so and the verdict
    cannot pass. Budgets against a model that has learned nothing are inconclusive. If a linear
    model was measured, a candidate that does not beat it fails as well. ``sessions``: how much
    ratios of times differ between sessions on this machine.
    """
    results: list[BudgetResult] = []
    for place in (None, *measurements.elsewhere):
        broken = findings.broken_answers(measurements.on(place))
        if broken:
            results.append(broken)
    references = References(measurements)
    for budget in budgets:
        for place in _places(budget, targets, measurements):
            judge_one = cells.judge if budget.cell else findings.judge_one
            result = judge_one(budget, place, measurements)
            result = between_sessions.check(result, sessions or {})
            results.append(references.check(result))
    rival = findings.judge_linear(measurements)
    if rival:
        results.append(rival)
    evidence = _disturbances(budgets, targets, measurements)
    outcome = combine(results, evidence)
    candidate = measurements.models.get(CANDIDATE)
    digest = candidate.digest if candidate else None
    return Verdict(outcome=outcome, bundle=digest, budgets=results, evidence=evidence)


def stopping_rule(
    budgets: Sequence[Budget], target: Target, measurements: Measurements
) -> Callable[[Latency], bool] | None:
    """Return what says whether calls on a target suffice: whether its timed budgets are decided.

    Args:
        budgets: The recipe's.
        target: Where the calls are timed.
        measurements: All but the latencies on the target.

    Returns:
        A function of the latencies so far; None if no budget is timed on the target.
    """
    timed = [budget for budget in _timed_on(target, budgets) if not _is_rate(budget)]
    return _rule(timed, target, measurements, "latency")


def throughput_rule(
    budgets: Sequence[Budget], target: Target, measurements: Measurements
) -> Callable[[Throughput], bool] | None:
    """Return what says whether rounds on a target suffice; see ``stopping_rule``."""
    timed = [budget for budget in _timed_on(target, budgets) if _is_rate(budget)]
    return _rule(timed, target, measurements, "throughput")


def _timed_on(target: Target, budgets: Sequence[Budget]) -> list[Budget]:
    timed = [budget for budget in budgets if known(budget.metric).timed]
    return [budget for budget in timed if budget.target in (None, target.name)]


def _is_rate(budget: Budget) -> bool:
    return known(budget.metric).kind == "throughput"


def _rule(
    budgets: Sequence[Budget], target: Target, measurements: Measurements, part: str
) -> Callable[[Any], bool] | None:
    """Return what says whether budgets are decided by a part of the measurements of a target."""
    if not budgets:
        return None

    def is_decided(timed: Any) -> bool:
        so_far = measurements.model_copy(update={part: {target.name: timed}})
        results = [findings.judge_one(budget, target.name, so_far) for budget in budgets]
        return all(result.outcome != "inconclusive" for result in results)

    return is_decided


def _places(
    budget: Budget, targets: Sequence[Target], measurements: Measurements
) -> list[str | None]:
    """Return the targets on which a budget is judged; None stands for all that answer alike."""
    if budget.target:
        return [budget.target]
    metric = find(budget.metric)
    if metric is not None and metric.timed:
        return [target.name for target in targets]
    if metric is not None and metric.from_rows:
        return [None, *measurements.elsewhere]
    return [None]


def _disturbances(
    budgets: Sequence[Budget], targets: Sequence[Target], measurements: Measurements
) -> list[str]:
    """Return why timings that a budget of level error needs cannot support a verdict."""
    clocked: dict[str, set[str | None]] = {"latency": set(), "throughput": set()}
    for budget in budgets:
        metric = find(budget.metric)
        if budget.level != "error" or metric is None:
            continue
        if metric.timed:
            part = "throughput" if _is_rate(budget) else "latency"
            clocked[part].update(_places(budget, targets, measurements))
        if metric.kind == "cold_start":
            clocked["latency"].add(targets[0].name)
    evidence = []
    for part, names in clocked.items():
        for name, change in findings.throttling(measurements, part).items():
            if name in names:
                evidence.append(f"{name}: {change}; its timings cannot support a verdict")
    return evidence


class References:
    """The references of some measurements, and which of them have learned nothing.

    A share of what such a model has learned is no verdict.
    """

    def __init__(self, measurements: Measurements) -> None:
        self._measured = measurements
        self._shortfalls: dict[str, str | None] = {}

    def check(self, result: BudgetResult) -> BudgetResult:
        """Return a result as it is, or inconclusive if its reference has learned nothing."""
        shortfall = self.shortfall(result)
        if shortfall is None:
            return result
        why = f"inconclusive because {shortfall}"
        changes = {"outcome": "inconclusive", "reason": f"{result.reason}; {why}"}
        undecided = []
        for cell in result.cells:
            reason = f"{cell.reason}; {why}"
            undecided.append(cell.model_copy(update={"outcome": "inconclusive", "reason": reason}))
        return result.model_copy(update=changes | {"cells": undecided})

    def shortfall(self, result: BudgetResult) -> str | None:
        """Return that a result's reference has learned nothing, and why; None if it has learned."""
        name = self._reference(result)
        if name is None:
            return None
        if name not in self._shortfalls:
            self._shortfalls[name] = floor.of_model(self._measured, name)
        shortfall = self._shortfalls[name]
        if shortfall is None:
            return None
        return f"{result.against or name} {shortfall}"

    def _reference(self, result: BudgetResult) -> str | None:
        """Return the model that a result compares the candidate with, None if there is none."""
        if result.against:
            name = self._measured.name_of(result.against)
            return None if name == CANDIDATE else name
        if known(result.metric).kind not in COMPARED or not self._measured.references:
            return None
        return self._measured.references[0]
