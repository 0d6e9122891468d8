"""Power analysis: does the eval split have enough rows for a budget's non-inferiority margin?

With too few rows, the verdict is inconclusive. The number needed depends on the margin and on how
often the two models disagree. It is reported before the run and again with the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.terms.budget import Budget
from pipeline.terms.metrics import METRICS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.measure.measurements import Measurements

DISAGREEMENT = 0.08
"""The share of rows on which a compressed model typically disagrees with its teacher."""
REFERENCE = 0.9
"""The teacher's accuracy that is assumed before it has been measured."""

Z_BOUND, Z_POWER = 1.645, 0.842
"""Normal quantiles of a one-sided 95 % bound and of 80 % power."""


@dataclass(frozen=True)
class Need:
    """The eval rows that one budget needs for its margin (an absolute difference of scores).

    ``measured``: whether the disagreement comes from an earlier run rather than from the default.
    """

    budget: Budget
    margin: float
    disagreement: float
    measured: bool
    rows: int
    needed: int

    @property
    def enough(self) -> bool:
        return self.rows >= self.needed

    @property
    def text(self) -> str:
        share = f"{self.disagreement:.1%}".replace(".0%", "%")
        origin = f"{share} of the answers differed in the last run"
        if not self.measured:
            origin = f"assuming that {share} of the answers differ"
        return (
            f"{self.budget.metric} {self.budget.form} against {self.budget.against}: a margin of "
            f"{self.margin:.1%} needs about {self.needed:,} eval rows ({origin}); the split has "
            f"{self.rows:,}" + ("" if self.enough else ", so expect 'inconclusive'")
        )


def needs(budgets: Sequence[Budget], rows: int, earlier: Measurements | None = None) -> list[Need]:
    """Return the rows that each budget on a relative score needs; the split has ``rows``.

    ``earlier``: measurements of the same recipe. They give the observed disagreement and the
    reference's accuracy; without them, defaults are assumed.
    """
    asked = []
    for budget in budgets:
        known = METRICS.get(budget.metric)
        if known is None or known.kind != "score" or budget.against is None:
            continue
        seen = None if earlier is None else _seen(earlier, budget.against)
        share, reference = seen or (DISAGREEMENT, REFERENCE)
        margin = margin_of(budget, reference)
        if margin > 0:
            needed = rows_needed(margin, share)
            asked.append(Need(budget, margin, share, seen is not None, rows, needed))
    return asked


def margin_of(budget: Budget, reference: float) -> float:
    """Return the absolute drop that a budget allows if the reference scores ``reference``."""
    if budget.form == "max_drop":
        return budget.limit
    share = 1 - budget.limit if budget.form == "min_retained" else budget.limit
    return share * reference


def rows_needed(margin: float, disagreement: float) -> int:
    """Return the rows needed to show non-inferiority with 80 % power if there is no true drop.

    This is about 6.18 · disagreement / margin², and more if the disagreement is not much larger
    than the margin: the test uses the variance under a true drop equal to the margin, which is
    larger. Derived from Tango's statistic with a continuity correction of half a row, at the
    expected table.
    """
    from pipeline.measure.scores import HALF_A_ROW

    middle = disagreement + 2 * margin
    losses = (math.sqrt(middle**2 - 4 * disagreement * margin * (1 + margin)) + middle) / 4
    at_margin = 2 * losses - margin * (1 + margin)
    reach = Z_BOUND * math.sqrt(at_margin) + Z_POWER * math.sqrt(disagreement)
    root = (reach + math.sqrt(reach**2 + 4 * margin * HALF_A_ROW)) / (2 * margin)
    return math.ceil(root**2)


def lacking(budget: Budget, ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> str:
    """Return how many rows a budget needs if there are too few, "" if there are enough.

    ``ours`` and ``theirs`` say for each row whether the candidate and the reference are right.
    """
    margin = margin_of(budget, float(theirs.mean()))
    if margin <= 0:
        return ""
    needed = rows_needed(margin, float((ours != theirs).mean()))
    if needed <= len(ours):
        return ""
    return f"; about {needed:,} eval rows are needed, but the split has only {len(ours):,}"


def _seen(measurements: Measurements, reference: str) -> tuple[float, float] | None:
    """Return the share of rows that only one model has right, and the reference's accuracy.

    Returns None if the candidate or the reference was not measured.
    """
    from pipeline.measure.measurements import CANDIDATE

    name = measurements.name_of(reference)
    if name is None or CANDIDATE not in measurements.models or not measurements.truth:
        return None
    ours, theirs = measurements.right(CANDIDATE), measurements.right(name)
    return float((ours != theirs).mean()), float(theirs.mean())
