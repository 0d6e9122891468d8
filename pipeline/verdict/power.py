"""Whether an eval split has rows enough for a budget's margin, told before the run and after it.

On too few rows nothing can be told. How many it takes depends on the margin, and on how often the
two models differ.
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
"""The share of rows on which a compressed model usually differs from its teacher."""
REFERENCE = 0.9
"""The share of rows that a teacher has right, where nobody knows it yet."""

Z_BOUND, Z_POWER = 1.645, 0.842
"""Normal quantiles of a one-sided 95 % bound and of 80 % power."""


@dataclass(frozen=True)
class Need:
    """The rows that one budget's margin (in points of the score) asks for.

    ``measured``: whether the disagreement is that of an earlier run, not the usual one.
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
        origin = f"{share} of the answers differed last time"
        if not self.measured:
            origin = f"if {share} of the answers differ"
        return (
            f"{self.budget.metric} {self.budget.form} against {self.budget.against}: a margin of "
            f"{self.margin:.1%} needs about {self.needed:,} eval rows ({origin}); there are "
            f"{self.rows:,}" + ("" if self.enough else ": expect 'inconclusive'")
        )


def needs(budgets: Sequence[Budget], rows: int, earlier: Measurements | None = None) -> list[Need]:
    """Return what every budget that compares a score asks of an eval split of ``rows`` rows.

    ``earlier``: measurements of the same recipe, for how often its models really differ, and how
    good the reference is.
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
    """Return the points of a score that a budget lets go, where the reference has ``reference``."""
    if budget.form == "max_drop":
        return budget.limit
    share = 1 - budget.limit if budget.form == "min_retained" else budget.limit
    return share * reference


def rows_needed(margin: float, disagreement: float) -> int:
    """Return the rows that show non-inferiority with 80 % power where there is no true drop.

    About 6.18 · disagreement / margin², and more where the disagreement is not far above the
    margin: of a true drop of the margin the variance is larger, and the test stands on that one.
    Follows from Tango's statistic with half a row's correction, at the expected table.
    """
    from pipeline.measure.scores import HALF_A_ROW

    middle = disagreement + 2 * margin
    losses = (math.sqrt(middle**2 - 4 * disagreement * margin * (1 + margin)) + middle) / 4
    at_margin = 2 * losses - margin * (1 + margin)
    reach = Z_BOUND * math.sqrt(at_margin) + Z_POWER * math.sqrt(disagreement)
    root = (reach + math.sqrt(reach**2 + 4 * margin * HALF_A_ROW)) / (2 * margin)
    return math.ceil(root**2)


def lacking(budget: Budget, ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> str:
    """Say how many rows a budget needs where there are too few; "" where there are enough.

    ``ours`` and ``theirs``: for each row whether the candidate and the reference are right.
    """
    margin = margin_of(budget, float(theirs.mean()))
    if margin <= 0:
        return ""
    needed = rows_needed(margin, float((ours != theirs).mean()))
    if needed <= len(ours):
        return ""
    return f": about {needed:,} eval rows are needed, and there are {len(ours):,}"


def _seen(measurements: Measurements, reference: str) -> tuple[float, float] | None:
    """Return the share of rows that exactly one of both has right, and the reference's accuracy.

    None where candidate or reference was not measured.
    """
    from pipeline.measure.measurements import CANDIDATE

    name = measurements.name_of(reference)
    if name is None or CANDIDATE not in measurements.models or not measurements.truth:
        return None
    ours, theirs = measurements.right(CANDIDATE), measurements.right(name)
    return float((ours != theirs).mean()), float(theirs.mean())
