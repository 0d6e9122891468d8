"""Power analysis: are there enough rows, and timed processes, to judge the margins of budgets?

With too few rows, the verdict is inconclusive. The number needed depends on the margin and on how
often the two models disagree. It is reported before the run and again with the verdict.

That is so for scores that count right rows. For others, such as a correlation, and for rows in
groups, it depends on how sure the difference of the last run was, so nothing is known before the
first one. A margin on one label or slice needs as many rows of it as it would of all.

The tail of a latency varies more between processes than the median does, so the same margin leaves
more of its regressions inconclusive. And below a few percent, one session may differ from the next
by as much.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rarefy.pipeline.measure.stopping import FEWEST, LOOKS
from rarefy.pipeline.terms.budget import EVERY, OTHER, Budget, frequent
from rarefy.pipeline.terms.interval import HALF_A_ROW, Interval
from rarefy.pipeline.terms.metrics import DIFFERENCES, METRICS, find, known, unit
from rarefy.pipeline.terms.wording import plural, points, quantity, required

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rarefy.pipeline.measure.measurements import Latency, Measurements
    from rarefy.pipeline.measure.statistics.intervals import Bootstrap
    from rarefy.pipeline.verdict.between_sessions import Spread, Timed
    from rarefy.pipeline.verdict.cell_scores import Cell

DISAGREEMENT = 0.08
"""The share of rows on which a compressed model typically disagrees with its teacher."""
REFERENCE = 0.9
"""The teacher's accuracy that is assumed before it has been measured."""

Z_BOUND, Z_POWER = 1.645, 0.842
"""Normal quantiles of a one-sided 95% bound and of 80% power."""

SESSION: Final = 0.03
"""A margin below this is no more than what sessions of one machine may differ by."""
DEVIATIONS: Final = {50: 0.013, 90: 0.02, 95: 0.03, 99: 0.08}
"""Percentile -> the deviation of its ratio between processes, before a run has told."""
Z: Final = 1.96
"""The normal quantile of the two-sided 95% interval that absolute limits are judged by."""
SHOWN: Final = 8
"""Cells with too few rows that a note names."""


@dataclass(frozen=True)
class Need:
    """The eval rows that one budget needs for its margin (an absolute difference of scores).

    ``measured``: whether the disagreement comes from an earlier run rather than from the default.
    ``error``: if rows are not counted, the standard error of the difference in that run.
    """

    budget: Budget
    margin: float
    disagreement: float
    measured: bool
    rows: int
    needed: int
    error: float | None = None

    @property
    def enough(self) -> bool:
        return self.rows >= self.needed

    @property
    def text(self) -> str:
        budget = self.budget
        share = f"{self.disagreement:.1%}".replace(".0%", "%")
        origin = f"{share} of the predictions differed in the last run"
        if not self.measured:
            origin = f"assuming that {share} of the predictions differ"
        if self.error is not None:
            error = self._difference(self.error)
            origin = f"the difference of the last run had a standard error of {error}"
        text = (
            f"{budget.metric} {budget.form} against {budget.against}: a margin of "
            f"{self._difference(self.margin)} needs about {self.needed:,} eval rows ({origin}); "
            f"the split has {self.rows:,}"
        )
        if self.enough:
            return text
        return f"{text}, so expect 'inconclusive'"

    def _difference(self, value: float) -> str:
        """Return a difference of scores in words: in points, unless the budget's is a number."""
        form = self.budget.form if self.budget.form in DIFFERENCES else "max_drop"
        return quantity(value, unit(self.budget.metric, form))


def needs(
    budgets: Sequence[Budget],
    rows: int,
    earlier: Measurements | None = None,
    *,
    counted: bool = True,
) -> list[Need]:
    """Return the rows that each budget on a relative score needs; the split has ``rows``.

    ``counted``: whether the task's scores count right rows that are independent; see
    ``Scorer.counted``.

    ``earlier``: measurements of the same recipe. They give the observed disagreement and the
    reference's accuracy; without them, defaults are assumed.
    """
    by_budget: list[Need] = []
    for budget in budgets:
        if budget.cell is not None or budget.own:
            continue  # ``cell_needs`` tells; a function of one's own is not called before the run
        metric = find(budget.metric)
        scored = metric is not None and metric.kind in ("score", "error", "agreement")
        if not scored or budget.against is None:
            continue
        if counted and counts_rows(budget.metric):
            by_budget += _from_disagreement(budget, budget.against, rows, earlier)
        else:
            by_budget += _from_error(budget, rows, earlier)
    return by_budget


def counts_rows(metric: str) -> bool:
    """Return whether a score is the share of rows; in others, such as macro F1, some weigh more."""
    return metric == "accuracy" or known(metric).kind == "agreement"


def _from_disagreement(
    budget: Budget, against: str, rows: int, earlier: Measurements | None
) -> list[Need]:
    """Return what a budget on a score that counts rows needs; empty if it allows no drop."""
    disagreement, reference, measured = DISAGREEMENT, REFERENCE, False
    shares = _seen(earlier, against) if earlier else None
    if shares:
        disagreement, reference = shares
        measured = True
    margin = margin_of(budget, reference)
    if margin <= 0:
        return []
    needed = rows_needed(margin, disagreement)
    return [Need(budget, margin, disagreement, measured, rows, needed)]


def _from_error(budget: Budget, rows: int, earlier: Measurements | None) -> list[Need]:
    """Return what a budget on a score that counts no rows needs; empty if no run tells."""
    from rarefy.pipeline.measure.measurements import CANDIDATE

    name = earlier.name_of(budget.against or "") if earlier else None
    if earlier is None or name is None or CANDIDATE not in earlier.models or not earlier.truth:
        return []
    earlier = earlier.scored_with(budget.own)
    task, ours, theirs = earlier.scored_by, earlier.table(CANDIDATE), earlier.table(name)
    if task.scorer.formula(budget.metric, earlier.truth) is None:
        return []
    comparison = earlier.compare(budget.metric, ours, theirs)
    blocks = len(task.scorer.correct(ours, earlier.truth))
    reference = earlier.score(budget.metric, name)
    margin = margin_of(budget, reference.value)
    error = standard_error(comparison)
    if not margin > 0 or not math.isfinite(error):
        return []
    needed = blocks_needed(margin, error, blocks)
    needed_rows = math.ceil(needed * rows / blocks)
    return [Need(budget, margin, 0.0, True, rows, needed_rows, error)]


def standard_error(both: Bootstrap) -> float:
    """Return the standard error of a difference, from its one-sided 95% bounds."""
    bounds = both.difference90
    return (bounds.high - bounds.low) / (2 * Z_BOUND)


def blocks_needed(margin: float, error: float, blocks: int) -> int:
    """Return the blocks needed to show non-inferiority with 80% power if there is no true drop.

    ``error``: the standard error of the difference on ``blocks`` blocks; it shrinks as 1/√blocks.
    """
    factor = (Z_BOUND + Z_POWER) * error / margin
    return math.ceil(blocks * factor**2)


def margin_of(budget: Budget, reference: float) -> float:
    """Return the absolute drop that a budget allows if the reference scores ``reference``."""
    if budget.form in DIFFERENCES:
        return budget.limit
    if budget.form == "min_retained":
        return (1 - budget.limit) * reference
    return budget.limit * reference


def rows_needed(margin: float, disagreement: float) -> int:
    """Return the rows needed to show non-inferiority with 80% power if there is no true drop.

    This is about 6.18 · disagreement / margin², and more if the disagreement is not much larger
    than the margin: the test uses the variance under a true drop equal to the margin, which is
    larger. Derived from Tango's statistic with a continuity correction of half a row, at the
    expected table.
    """
    middle = disagreement + 2 * margin
    discriminant = middle**2 - 4 * disagreement * margin * (1 + margin)
    losses = (math.sqrt(discriminant) + middle) / 4
    at_margin = 2 * losses - margin * (1 + margin)
    bound = Z_BOUND * math.sqrt(at_margin)
    reach = bound + Z_POWER * math.sqrt(disagreement)
    corrected = math.sqrt(reach**2 + 4 * margin * HALF_A_ROW)
    root = (reach + corrected) / (2 * margin)
    return math.ceil(root**2)


def lacking(budget: Budget, ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> str:
    """Return how many rows a budget needs if there are too few, "" if there are enough.

    ``ours`` and ``theirs`` say for each row whether the candidate and the reference are right.
    """
    reference = float(theirs.mean())
    margin = margin_of(budget, reference)
    if margin <= 0:
        return ""
    differs = ours != theirs
    disagreement = float(differs.mean())
    needed = rows_needed(margin, disagreement)
    if needed <= len(ours):
        return ""
    return f"; about {needed:,} eval rows are needed, but the split has only {len(ours):,}"


def lacking_blocks(
    budget: Budget, both: Bootstrap, reference: float, blocks: int, block: str
) -> str:
    """Return what ``lacking`` returns, for a score that counts no rows; ``block``: its name."""
    margin, error = margin_of(budget, reference), standard_error(both)
    if not margin > 0 or not math.isfinite(error):
        return ""
    needed = blocks_needed(margin, error, blocks)
    if needed <= blocks:
        return ""
    more = plural(needed, f"eval {block}")
    return f"; about {more} are needed, but the split has only {blocks:,}"


def _seen(measurements: Measurements, reference: str) -> tuple[float, float] | None:
    """Return the share of rows that only one model has right, and the reference's accuracy.

    Returns None if the candidate or the reference was not measured.
    """
    from rarefy.pipeline.measure.measurements import CANDIDATE

    name = measurements.name_of(reference)
    if name is None or CANDIDATE not in measurements.models or not measurements.truth:
        return None
    ours = measurements.right(CANDIDATE)
    theirs = measurements.right(name)
    disagreement = (ours != theirs).mean()
    return float(disagreement), float(theirs.mean())


def time_notes(
    budgets: Sequence[Budget],
    processes: int,
    earlier: Measurements | None = None,
    sessions: Mapping[Timed, Spread] | None = None,
) -> list[str]:
    """Return a sentence for each regression of a latency that a session may not tell.

    Args:
        budgets: The recipe's.
        processes: Those that ``validate`` starts at least.
        earlier: The last run's measurements, which show how much processes differ.
        sessions: How much sessions differ on this machine.
    """
    sentences = []
    for budget in budgets:
        metric = METRICS.get(budget.metric)
        if metric is None or metric.kind != "latency" or budget.form != "max_regression":
            continue
        name = f"{budget.metric} max_regression against {budget.against}"
        for sentence in (
            _time_margin(budget, sessions or {}),
            _time_power(budget, processes, earlier),
        ):
            if sentence:
                sentences.append(f"{name}: {sentence}")
    return sentences


def _time_margin(budget: Budget, sessions: Mapping[Timed, Spread]) -> str | None:
    """Return that a margin is too small for one session, None if it is not."""
    margin = required(budget.limit, "%")
    for timed, spread in sessions.items():
        if (timed.metric, timed.caches) != (budget.metric, budget.caches):
            continue
        if budget.target not in (None, timed.target):
            continue
        if budget.limit < math.expm1(spread.reach):
            return f"sessions on this machine differ by {spread.text}, more than the {margin}"
    if budget.limit < SESSION:
        return (
            f"one session cannot show {margin}: the next may differ by {SESSION:.0%}; only "
            "a larger margin helps"
        )
    return None


def _time_power(budget: Budget, processes: int, earlier: Measurements | None) -> str | None:
    """Return from which slow-down on most sessions fail a tail, None for a median."""
    from scipy.stats import t

    _, _, percent = budget.metric.rpartition("_p")
    percentile = int(percent)
    if percentile == 50:
        return None
    most = max(processes, FEWEST)
    deviation, origin = DEVIATIONS[percentile], "assuming that it varies"
    measured = _time_deviation(budget, percentile, earlier)
    if measured is not None:
        deviation, origin = measured, "as it varied in the last run"
    confidence = 1 - 0.025 / LOOKS
    quantile = float(t.ppf(confidence, most - 1))
    error = deviation / math.sqrt(most)
    reach = (quantile + Z_POWER) * error
    slower = (1 + budget.limit) * math.exp(reach) - 1
    return (
        f"with {most} processes, a slow-down of {slower:.1%} or more is seen in 4 of 5 sessions, a "
        f"smaller one is mostly inconclusive ({origin} by {deviation:.1%} between processes)"
    )


def _time_deviation(budget: Budget, percentile: int, earlier: Measurements | None) -> float | None:
    """Return the deviation of a ratio between the processes of the last run, None if it had none.

    It is that of the target on which processes differed most.
    """
    from rarefy.pipeline.measure.measurements import CANDIDATE

    if earlier is None or budget.caches == "cold":
        return None
    name = earlier.name_of(budget.against or "")
    if name is None:
        return None
    deviations = []
    for target, timed in earlier.latency.items():
        if budget.target not in (None, target) or timed.processes < 2:
            continue
        if name in timed.samples and CANDIDATE in timed.samples:
            deviations.append(_of_processes(timed, name, percentile))
    return max(deviations, default=None)


def _of_processes(timed: Latency, reference: str, percentile: int) -> float:
    """Return the deviation that the interval of a ratio is made of."""
    from scipy.stats import t

    from rarefy.pipeline.measure.measurements import CANDIDATE

    ratio = timed.ratio(CANDIDATE, reference, percentile)
    confidence = 1 - 0.025 / timed.looks
    quantile = float(t.ppf(confidence, timed.processes - 1))
    reach = math.log(ratio.high / ratio.value)
    error = reach / quantile
    return error * math.sqrt(timed.processes)


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


def cell_needs(
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
        rows = cell_count(budget, marked, by_column)
        if not rows:
            continue
        if budget.against is None:
            need = _absolute(budget, rows)
        else:
            cells = _cell_names(budget, earlier)
            foreseen = independent and _is_foreseen(budget)
            need = _compared(budget, rows, cells) if cells or foreseen else None
        if need is not None:
            of_budgets.append(need)
    return of_budgets


def cell_count(
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
    is_share = counts_rows(budget.metric) or known(budget.metric).of_label
    if budget.form != "min" or not is_share or not 0 < budget.limit < 1:
        return None
    needed = math.ceil(Z**2 * budget.limit / (1 - budget.limit))
    basis = (
        f"{required(budget.limit, '%')} needs at least {needed:,} eval rows, even if all are right"
    )
    return CellNeeds(budget, basis, {name: (count, needed) for name, count in rows.items()})


def _compared(budget: Budget, rows: Mapping[str, int], cells: Sequence[Cell]) -> CellNeeds | None:
    """Return the rows with which a margin can be shown; ``cells``: those of the last run."""
    margin = margin_of(budget, REFERENCE)
    if margin <= 0:
        return None
    usual = rows_needed(margin, DISAGREEMENT)
    by_cell = dict.fromkeys(rows, (0, usual))
    for name, count in rows.items():
        by_cell[name] = count, usual
    origin = f"assuming that {DISAGREEMENT:.0%} of the predictions differ"
    for cell in cells:
        needed = cell_rows_needed(budget, cell)
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
    return budget.slice is None or counts_rows(budget.metric)


def _cell_names(budget: Budget, earlier: Measurements | None) -> list[Cell]:
    """Return the cells of the last run; empty if it tells nothing."""
    from rarefy.pipeline.verdict import cell_scores, lookup

    if earlier is None or not earlier.truth:
        return []
    try:
        measured = earlier.scored_with(budget.own)
        return cell_scores.of_measurements(budget, measured)
    except lookup.MissingError:
        return []


def cell_rows_needed(budget: Budget, cell: Cell) -> int | None:
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
    margin = margin_of(budget, cell.reference)
    if margin <= 0:
        return None
    if cell.disagreement is not None:
        return rows_needed(margin, cell.disagreement)
    error = standard_error(cell.score)
    if not math.isfinite(error):
        return None
    return blocks_needed(margin, error, cell.blocks)


def lacking_cells(budget: Budget, cell: Cell, block: str) -> str:
    """Return how many rows a cell needs if it has too few, "" if it has enough.

    ``block``: what its rows are called.
    """
    needed = cell_rows_needed(budget, cell)
    if needed is None or needed <= cell.blocks:
        return ""
    more = plural(needed, f"eval {block}")
    return f"; about {more} are needed, but there are only {cell.blocks:,}"
