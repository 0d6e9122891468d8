"""Describe a number that is tracked over time: its title, its unit and its last change."""

from __future__ import annotations

from dataclasses import dataclass

from rarefy.pipeline.report import wording
from rarefy.pipeline.terms import metrics
from rarefy.pipeline.verdict.history_numbers import Key, Past, Reading, apart, comparable

Followed = list[tuple[Past, Reading]]
"""Verdicts with one number each, oldest first."""
_RELATIVE = {
    "max_drop": "drop from {}",
    "max_increase": "increase over {}",
    "min_retained": "retained of {}",
    "min_speedup": "speed-up over {}",
    "min_shrink": "times smaller than {}",
    "max_regression": "regression from {}",
}


@dataclass(frozen=True)
class Change:
    """The difference from the previous verdict, and whether it is an improvement."""

    text: str
    better: bool


def title(key: Key) -> str:
    """Return the number's title, such as ``Latency p50, speed-up over teacher``."""
    name = metrics.title(key.metric)
    if key.cell:
        name += f" ({wording.shorten(key.cell, 40)})"
    if key.form is None:
        return name
    against = wording.shorten(key.against or "the reference", 40)
    if key.form not in _RELATIVE:
        return f"{name}, {metrics.title(key.form)} {against}"
    return f"{name}, {_RELATIVE[key.form].format(against)}"


def unit(key: Key) -> str:
    """Return the unit: %, points, ×, ms, B, or an empty string for a count."""
    return metrics.unit(key.metric, key.form)


def shown(key: Key, value: float) -> str:
    """Return a value with its unit, formatted as in the report."""
    return wording.amount(key.metric, key.form, value)


def limit(key: Key, value: float) -> str:
    """Return a budget's limit with its unit, formatted as in the report."""
    return wording.limit(key.metric, key.form, value)


def interval(key: Key, reading: Reading) -> str | None:
    """Return the bounds of a reading; None if it is exact or missing."""
    if reading.value is None or reading.bounds == (reading.value, reading.value):
        return None
    low, high = reading.bounds
    first = shown(key, low)
    last = shown(key, high)
    return wording.span(first, last)


def higher_is_better(key: Key) -> bool:
    """Return whether a higher value of the number is better."""
    if key.form is not None:
        return key.form.startswith("min")
    return metrics.known(key.metric).higher_is_better


def change(key: Key, readings: Followed) -> Change | None:
    """Return how the last value differs from the previous one.

    Returns None if the change is not clear: the intervals overlap, the machine changed, or it was
    slowed down while one of them was timed.
    """
    if len(readings) < 2:
        return None
    (past, before), (now, after) = readings[-2:]
    if not comparable(key, past, now) or not apart(key, before, after):
        return None
    metric = metrics.known(key.metric)
    is_time = metric.timed or metric.kind == "cold_start"
    if is_time and (past.evidence or now.evidence):
        return None
    assert before.value is not None
    assert after.value is not None
    step = after.value - before.value
    text = "↓"
    if step > 0:
        text = "↑"
    if unit(key) in ("%", "points"):
        text += f" {wording.points(abs(step))}"
    elif before.value > 0:
        share = abs(step) / before.value
        text += f" {wording.percent(share)}"
    wants_more = higher_is_better(key)
    if metrics.is_own(key.metric) and "max" in after.limits:
        wants_more = False
    return Change(text, (step > 0) == wants_more)
