"""Whether an eval split has rows enough for a budget's margin, told before the run and after it.

A test without power passes nothing and fails nothing. To see no drop where there is none, four
times in five, takes as many rows as the models' disagreement and the margin ask for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.recipe import Budget
from pipeline.verdict import KNOWN_METRICS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.measure.measurements import Measurements

DISAGREEMENT = 0.08
"""The share of rows on which a compressed model usually differs from its teacher."""


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

    ``earlier``: measurements of the same recipe, for how often its models really differ.
    """
    found = []
    for budget in budgets:
        known = KNOWN_METRICS.get(budget.metric)
        if known is None or known.kind != "score" or budget.against is None:
            continue
        margin = margin_of(budget)
        if margin <= 0:
            continue
        differ = None if earlier is None else disagreement(earlier, budget.against)
        share = DISAGREEMENT if differ is None else differ
        needed = rows_needed(margin, share)
        found.append(Need(budget, margin, share, differ is not None, rows, needed))
    return found


def margin_of(budget: Budget, reference: float = 1.0) -> float:
    """Return the points of a score that a budget lets go, where the reference has ``reference``."""
    if budget.form == "max_drop":
        return budget.limit
    share = 1 - budget.limit if budget.form == "min_retained" else budget.limit
    return share * reference


def rows_needed(margin: float, disagreement: float) -> int:
    """Return the rows that show non-inferiority with 80 % power where there is no true drop.

    With half a row's continuity correction (Fleiss, Tytun and Ury 1980, "A simple approximation
    for calculating sample sizes for comparing independent proportions"), and never fewer than
    pass where the models do not differ at all.
    """
    from pipeline.measure.scores import HALF_A_ROW
    from pipeline.measure.statistics import required_rows

    plain = required_rows(margin, disagreement)
    z = 1.645
    least = (z + math.sqrt(z * z + 4 * HALF_A_ROW)) ** 2 / 4 / margin
    if not plain:
        return math.ceil(least)
    corrected = plain / 4 * (1 + math.sqrt(1 + 4 * HALF_A_ROW / (plain * margin))) ** 2
    return math.ceil(max(corrected, least))


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


def disagreement(measurements: Measurements, reference: str) -> float | None:
    """Return the share of rows on which exactly one of candidate and reference is right.

    None where either was not measured.
    """
    import numpy as np

    from pipeline.measure import statistics
    from pipeline.measure.measurements import CANDIDATE

    name = measurements.name_of(reference)
    if name is None or CANDIDATE not in measurements.models or not measurements.truth:
        return None
    truth = np.asarray(measurements.truth)
    ours, theirs = (
        statistics.answers(np.asarray(measurements.models[model].probabilities)) == truth
        for model in (CANDIDATE, name)
    )
    return float(np.mean(ours != theirs))
