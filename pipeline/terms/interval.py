"""A value with its confidence interval."""

from __future__ import annotations

from typing import Final, NamedTuple

HALF_A_ROW: Final = 0.5
"""The continuity correction of one-sided bounds on a difference of counted rows.

Without it, a true drop equal to the margin passes up to 6% of the time if few rows differ; with
it, at most 5 % (``benchmarks/coverage.py`` sums over all tables).
"""


class Interval(NamedTuple):
    """A value with the bounds of its confidence interval, at 95% unless stated otherwise."""

    value: float
    low: float
    high: float
