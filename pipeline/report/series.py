"""Describe a number that is tracked over time: its title, its unit and its last change."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.report import wording
from pipeline.terms import metrics
from pipeline.verdict.readings import Key, Past, Reading, apart, comparable

Followed = list[tuple[Past, Reading]]
"""Verdicts with one number each, oldest first."""
_RELATIVE = {
    "max_drop": "drop from {}",
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
    if key.form is None:
        return name
    words = _RELATIVE.get(key.form, f"{metrics.title(key.form)} {{}}")
    return f"{name}, {words.format(wording.shorten(key.against or 'the reference', 40))}"


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
    first, last = shown(key, low), shown(key, high)
    number, gap, suffix = first.rpartition(wording.NBSP)
    if gap and last.endswith(gap + suffix):
        first = number
    return f"{first.removesuffix('×')} – {last}"


def higher_is_better(key: Key) -> bool:
    """Return whether a higher value of the number is better."""
    if key.form is not None:
        return key.form.startswith("min")
    return metrics.known(key.metric).higher_is_better


def change(key: Key, followed: Followed) -> Change | None:
    """Return how the last value differs from the previous one.

    Returns None if the change is not clear: the intervals overlap, the machine changed, or it was
    slowed down while one of them was timed.
    """
    if len(followed) < 2:
        return None
    (past, before), (now, after) = followed[-2:]
    if not comparable(key, past, now) or not apart(key, before, after):
        return None
    known = metrics.known(key.metric)
    if (known.timed or known.kind == "cold_start") and (past.evidence or now.evidence):
        return None
    assert before.value is not None and after.value is not None  # noqa: PT018 (checked by apart)
    step = after.value - before.value
    arrow = "↑" if step > 0 else "↓"
    if unit(key) in ("%", "points"):
        text = f"{arrow} {wording.points(abs(step))}"
    elif before.value > 0:
        text = f"{arrow} {wording.percent(abs(step) / before.value)}"
    else:
        text = arrow
    return Change(text, (step > 0) == higher_is_better(key))
