"""Judge a budget on each label, or on the rows of each value of a column: its cells.

Every cell has its own interval. ``*`` asks that all of them keep the limit. That passes if each
passes at its own level, which needs no correction: the chance that all pass is at most that of the
one that should not (Berger 1982, "Multiparameter hypothesis testing and acceptance sampling": an
intersection-union test). But of twenty cells that all keep it, one seems to miss it by chance. So
only those fail that still do after Holm's correction over the cells (Holm 1979), which wrongly
fails one of a family no more often than a single budget does. What neither passes nor fails is
inconclusive.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np

from rarefy.pipeline.measure.measurements import Measurements
from rarefy.pipeline.measure.predictions import slices
from rarefy.pipeline.terms.budget import Budget, misfit
from rarefy.pipeline.terms.outcomes import ORDER
from rarefy.pipeline.terms.wording import plural
from rarefy.pipeline.verdict import cell_scores, findings, lookup, power
from rarefy.pipeline.verdict.cell_scores import Cell
from rarefy.pipeline.verdict.findings import Finding
from rarefy.pipeline.verdict.verdict import BudgetResult, CellResult

LEVELS: Final = {"min": 0.025, "max": 0.025}
"""The one-sided level at which a form fails by its interval, if that is not ``LEVEL``."""
LEVEL: Final = 0.05
"""The level of all forms that compare with a reference: each bound is a one-sided 95% bound."""


def judge(budget: Budget, target: str | None, measurements: Measurements) -> BudgetResult:
    """Judge a budget that has a label or a slice on one target; see ``findings.judge_one``."""
    measured = measurements.scored_with(budget.own).on(target)
    reason = misfit(budget)
    cells: list[Cell] = []
    if reason is None:
        try:
            cells = cell_scores.of_measurements(budget, measured)
        except lookup.MissingError as missing:
            reason = str(missing)
    if reason is not None:
        missed = Finding(None, "fail", reason)
        return findings.result_of(budget, target, missed)
    block = _block_name(measured)
    return judge_cells(budget, target, cells, block)


def judge_cells(
    budget: Budget, target: str | None, cells: list[Cell], block: str = "row"
) -> BudgetResult:
    """Judge a budget by the scores of its cells, of which there is at least one.

    Args:
        budget: With a label or slice.
        target: Where the predictions were made; None if all targets predict alike.
        cells: The scores.
        block: What their blocks are called.
    """
    judged = [_finding(budget, cell, block) for cell in cells]
    chances = [_chance(budget, finding) for finding in judged]
    corrected = slices.holm(chances)
    level = LEVELS.get(budget.form, LEVEL)
    results = []
    for cell, finding, chance in zip(cells, judged, corrected, strict=True):
        if finding.outcome == "fail" and chance >= level and len(cells) > 1:
            finding = _spared(finding, len(cells), chance)
        results.append(_result(cell, finding))
    results.sort(key=lambda result: _badness(budget, result))
    first = results[0]
    reason = _sentence(results)
    of_family = findings.result_of(budget, target, Finding(None, first.outcome, reason))
    bounds = first.model_dump(include={"value", "low", "high"})
    return of_family.model_copy(update={"cells": results, **bounds})


def _sentence(results: list[CellResult]) -> str:
    """Return the reason of a budget: how its cells ended, and that of the worst."""
    first = results[0]
    text = f"{first.name}: {first.reason}"
    if len(results) == 1:
        return text
    counts = Counter(result.outcome for result in results)
    parts = [f"{number} {outcome}" for outcome, number in counts.items()]
    return f"of {len(results)} cells {', '.join(parts)}; the worst is {text}"


def _spared(finding: Finding, cells: int, chance: float) -> Finding:
    """Return the finding of a cell whose failure among so many may be by chance."""
    reason = (
        f"{finding.reason}; inconclusive because one of {cells} cells may miss it by chance "
        f"(p = {chance:.2g} after Holm's correction)"
    )
    return Finding(finding.interval, "inconclusive", reason)


def _result(cell: Cell, finding: Finding) -> CellResult:
    value = low = high = None
    if finding.interval is not None:
        value, low, high = finding.interval
    return CellResult(
        name=cell.name,
        rows=cell.blocks,
        value=value,
        low=low,
        high=high,
        outcome=finding.outcome,
        reason=finding.reason,
    )


def _badness(budget: Budget, result: CellResult) -> tuple[int, float]:
    """Return what sorts cells, the worst first: by outcome, and by how far beyond the limit."""
    beyond = np.inf
    if result.value is not None:
        beyond = _beyond(budget, result.value)
    return -ORDER.index(result.outcome), -beyond


def _beyond(budget: Budget, value: float) -> float:
    """Return how far a value is on the wrong side of the limit; negative on the right side."""
    if budget.form.startswith("min"):
        return budget.limit - value
    return value - budget.limit


def _finding(budget: Budget, cell: Cell, block: str) -> Finding:
    """Judge one cell by its own interval."""
    if cell.score is None:
        why = "a model never gives the label"
        if not cell.blocks:
            why = "no row counts for it"
        return Finding(None, "inconclusive", f"{budget.metric} says nothing: {why}")
    lacking = power.lacking_cells(budget, cell, block)
    finding = findings.of_score(budget, cell.score, lacking)
    if finding.interval is None or np.isfinite(finding.interval).all():
        return finding
    blocks = plural(cell.blocks, block)
    reason = f"{budget.metric} is not a number on {blocks}"
    return Finding(None, "inconclusive", reason)


def _chance(budget: Budget, finding: Finding) -> float:
    """Return the one-sided p-value of a cell that keeps the limit to be as bad as this one.

    It is read off the interval: at its own level the bound on the near side would be the limit,
    and between bounds at other levels the tails are taken for normal. For a share near its end
    the true tail is lighter, so this errs to the safe side: it fails later.
    """
    from scipy.stats import norm

    if finding.interval is None:
        return 1.0
    value, low, high = finding.interval
    bound = low
    if budget.form.startswith("min"):
        bound = high
    distance = abs(bound - value)
    beyond = _beyond(budget, value)
    if distance == 0:
        return float(beyond <= 0)
    level = LEVELS.get(budget.form, LEVEL)
    quantile = norm.isf(level) * beyond / distance
    chance = norm.sf(quantile)
    return float(chance)


def _block_name(measured: Measurements) -> str:
    if measured.groups:
        return "group"
    return measured.scored_by.scorer.block_name(measured.truth)
