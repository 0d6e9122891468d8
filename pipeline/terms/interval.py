"""A value with its confidence interval."""

from __future__ import annotations

from typing import NamedTuple


class Interval(NamedTuple):
    """A value with the bounds of its confidence interval, at 95 % unless stated otherwise."""

    value: float
    low: float
    high: float
