"""Does each label or slice of a budget have enough rows? Said before the run and with the verdict.

As ``rarefy.pipeline.verdict.power`` for all rows: a margin needs as many rows of one label as it
would of all.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rarefy.pipeline.terms.budget import EVERY, OTHER, Budget, frequent
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.metrics import known
from rarefy.pipeline.terms.wording import plural, points, required
from rarefy.pipeline.verdict import power

if TYPE_CHECKING:
    from rarefy.pipeline.measure.measurements import Measurements
    from rarefy.pipeline.verdict.cell_scores import Cell

Z: Final = 1.96
"""The normal quantile of the two-sided 95% interval that absolute limits are judged by."""
SHOWN: Final = 8
"""Cells with too few rows that a note names."""


@dataclass(frozen=True)
class CellNeeds:
    """The eval rows that the cells of one budget have, and those that each needs.

    ``basis``: what the limit is, and from where the need is known. ``by_cell``: name -> rows, and
    rows that are needed.
    """

    budget: Budget
    basis: str
    by_cell: dict[str, tuple[int, int]]

    @property
    def lacking(self) -> dict[str, tuple[int, int]]:
        """Those cells that have too few, the one with the fewest rows first."""
        cells = sorted(self.by_cell.items(), key=lambda cell: cell[1])
        return {name: (rows, needed) for name, (rows, needed) in cells if rows < needed}

    @property
    def enough(self) -> bool:
        return not self.lacking

    @property
    def rows(self) -> int:
        """The fewest rows of a cell."""
        return min(rows for rows, _ in self.by_cell.values())

    @property
    def needed(self) -> int:
        """The most rows that a cell needs."""
        return max(needed for _, needed in self.by_cell.values())

    @property
    def text(self) -> str:
        budget, cells = self.budget, len(self.by_cell)
        against = f" against {budget.against}" if budget.against else ""
        text = f"{budget.metric} ({budget.cell}) {budget.form}{against}: {self.basis}"
        lacking = self.lacking
        if not lacking:
            return f"{text}; all cells have enough"
        shown = []
        for name, (rows, needed) in list(lacking.items())[:SHOWN]:
            shown.append(f"{name} has {rows:,} of about {needed:,}")
        if len(lacking) > SHOWN:
            shown.append(f"and {len(lacking) - SHOWN} more")
        count = f"{len(lacking)} of {plural(cells, 'cell')}"
        return f"{text}; expect 'inconclusive' for {count}: {', '.join(shown)}"


def needs(
    budgets: Iterable[Budget],
    marked: Mapping[str, int],
    by_column: Mapping[str, Mapping[str, int]],
    earlier: Measurements | None = None,
    *,
    independent: bool = True,
) -> list[CellNeeds]:
    """Return the rows that the cells of each budget with a label or a slice need.

    Args:
        budgets: The recipe's.
        marked: The eval rows of each label.
        by_column: Column -> value -> eval rows.
        earlier: Measurements of the same recipe, which give the observed disagreement.
        independent: Whether no rows are in one group; else only an earlier run tells what a
            margin needs.
    """
    of_budgets = []
    for budget in budgets:
        if budget.cell is None or budget.own:
            continue
        rows = count(budget, marked, by_column)
        if not rows:
            continue
        if budget.against is None:
            need = _absolute(budget, rows)
        else:
            cells = _cells(budget, earlier)
            foreseen = independent and _is_foreseen(budget)
            need = _compared(budget, rows, cells) if cells or foreseen else None
        if need is not None:
            of_budgets.append(need)
    return of_budgets


def count(
    budget: Budget, marked: Mapping[str, int], by_column: Mapping[str, Mapping[str, int]]
) -> dict[str, int]:
    """Return the number of rows of each cell of a budget; the arguments are those of ``needs``."""
    if budget.slice is None:
        if budget.label == EVERY:
            return dict(marked)
        return {str(budget.label): marked.get(str(budget.label), 0)}
    column, value = budget.column_and_value
    counts = by_column.get(column, {})
    if value != EVERY:
        return {value: counts.get(value, 0)}
    common = frequent(counts)
    cells: Counter[str] = Counter()
    for name, rows in counts.items():
        cells[name if name in common else OTHER] += rows
    return dict(cells)


def _absolute(budget: Budget, rows: Mapping[str, int]) -> CellNeeds | None:
    """Return the rows with which a floor can be passed at all: if every one is right."""
    is_share = power.counts_rows(budget.metric) or known(budget.metric).of_label
    if budget.form != "min" or not is_share or not 0 < budget.limit < 1:
        return None
    needed = math.ceil(Z**2 * budget.limit / (1 - budget.limit))
    basis = (
        f"{required(budget.limit, '%')} needs at least {needed:,} eval rows, even if all are right"
    )
    return CellNeeds(budget, basis, {name: (count, needed) for name, count in rows.items()})


def _compared(budget: Budget, rows: Mapping[str, int], cells: Sequence[Cell]) -> CellNeeds | None:
    """Return the rows with which a margin can be shown; ``cells``: those of the last run."""
    margin = power.margin_of(budget, power.REFERENCE)
    if margin <= 0:
        return None
    usual = power.rows_needed(margin, power.DISAGREEMENT)
    by_cell = dict.fromkeys(rows, (0, usual))
    for name, count in rows.items():
        by_cell[name] = count, usual
    origin = f"assuming that {power.DISAGREEMENT:.0%} of the predictions differ"
    for cell in cells:
        needed = rows_needed(budget, cell)
        if needed is not None and cell.name in rows:
            count = rows[cell.name]
            by_cell[cell.name] = count, math.ceil(needed * count / cell.blocks)
            origin = "by what differed in the last run"
    basis = f"a margin of {points(margin)} needs about {usual:,} eval rows ({origin})"
    if cells:
        basis = f"the rows for a margin of {points(margin)}, {origin}"
    return CellNeeds(budget, basis, by_cell)


def _is_foreseen(budget: Budget) -> bool:
    """Return whether the disagreement tells, before any run, what a score needs; see ``power``."""
    return budget.slice is None or power.counts_rows(budget.metric)


def _cells(budget: Budget, earlier: Measurements | None) -> list[Cell]:
    """Return the cells of the last run; empty if it tells nothing."""
    from rarefy.pipeline.verdict import cell_scores, lookup

    if earlier is None or not earlier.truth:
        return []
    try:
        measured = earlier.scored_with(budget.own)
        return cell_scores.of_measurements(budget, measured)
    except lookup.MissingError:
        return []


def rows_needed(budget: Budget, cell: Cell) -> int | None:
    """Return the rows that a cell needs, by what was measured of it; None if that tells nothing.

    Alone, the interval narrows as 1/√rows until its near bound is the limit.
    """
    if cell.score is None:
        return None
    if isinstance(cell.score, Interval):
        value, low, high = cell.score
        gap = abs(value - budget.limit)
        near = low if value > budget.limit else high
        if not gap > 0:
            return None
        return math.ceil(cell.blocks * ((value - near) / gap) ** 2)
    margin = power.margin_of(budget, cell.reference)
    if margin <= 0:
        return None
    if cell.disagreement is not None:
        return power.rows_needed(margin, cell.disagreement)
    error = power.standard_error(cell.score)
    if not math.isfinite(error):
        return None
    return power.blocks_needed(margin, error, cell.blocks)


def lacking(budget: Budget, cell: Cell, block: str) -> str:
    """Return how many rows a cell needs if it has too few, "" if it has enough.

    ``block``: what its rows are called.
    """
    needed = rows_needed(budget, cell)
    if needed is None or needed <= cell.blocks:
        return ""
    more = plural(needed, f"eval {block}")
    return f"; about {more} are needed, but there are only {cell.blocks:,}"
