"""A value with the bounds of its interval."""

from __future__ import annotations

from typing import NamedTuple


class Interval(NamedTuple):
    """A value with the bounds of its interval; at 95 % unless its maker says otherwise."""

    value: float
    low: float
    high: float
