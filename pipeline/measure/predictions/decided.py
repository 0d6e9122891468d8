"""How many rows a bundle with thresholds leaves undecided, and how right it is on the others."""

from __future__ import annotations

from typing import NamedTuple

from rarefy.pipeline.measure.measurements import CANDIDATE, Measurements
from rarefy.pipeline.terms.interval import Interval


class Decided(NamedTuple):
    """The share of eval rows that are not decided, and of the others that are correct.

    ``correct`` is None if no row is decided.
    """

    undecided: Interval
    correct: Interval | None


def of(measured: Measurements) -> Decided | None:
    """Return what the candidate decides; None if it has no thresholds or answers NaN."""
    import numpy as np

    from rarefy.pipeline.measure.statistics import scores
    from rarefy.pipeline.tasks.shared import thresholds

    if not measured.thresholds or CANDIDATE not in measured.models:
        return None
    table = measured.table(CANDIDATE)
    if not np.isfinite(table).all():
        return None
    left = thresholds.undecided(table, measured.labels, measured.thresholds)
    groups = np.asarray(measured.groups)
    undecided = scores.share(left, groups=measured.groups)
    if left.all():
        return Decided(undecided, None)
    correct = measured.right(CANDIDATE)[~left]
    of_decided = groups[~left].tolist() if len(groups) else []
    return Decided(undecided, scores.share(correct, groups=of_decided))
