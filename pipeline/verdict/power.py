"""Power analysis: does the eval split have enough rows for a budget's non-inferiority margin?

With too few rows, the verdict is inconclusive. The number needed depends on the margin and on how
often the two models disagree. It is reported before the run and again with the verdict.

That is so for scores that count right rows. For others, such as a correlation, and for rows in
groups, it depends on how sure the difference of the last run was, so nothing is known before the
first one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.terms.interval import HALF_A_ROW
from rarefy.pipeline.terms.metrics import DIFFERENCES, find, known, unit
from rarefy.pipeline.terms.wording import plural, quantity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rarefy.pipeline.measure.measurements import Measurements
    from rarefy.pipeline.measure.statistics.intervals import Bootstrap

DISAGREEMENT = 0.08
"""The share of rows on which a compressed model typically disagrees with its teacher."""
REFERENCE = 0.9
"""The teacher's accuracy that is assumed before it has been measured."""

Z_BOUND, Z_POWER = 1.645, 0.842
"""Normal quantiles of a one-sided 95% bound and of 80% power."""


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
            continue  # cell_power tells; a function of one's own is not called before the run
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
