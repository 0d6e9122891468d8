"""Numbers with their units, as a verdict's sentences say them."""

from __future__ import annotations

from pipeline.terms.interval import Interval

_STEPS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def number(value: float) -> str:
    """Return three significant digits, without an exponent or empty decimals."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if "e" not in f"{value:.3g}" else f"{value:.6f}"


def quantity(value: float, unit: str) -> str:
    """Return a value in its unit: a share in percent, bytes and counts in k, M or G."""
    if unit == "%":
        return f"{_percent(value)} %"
    if unit == "×":
        return f"{_ratio(value)}×"
    if unit == "ms":
        return f"{number(value)} ms"
    for step, prefix in _STEPS:
        if abs(value) >= step:
            return f"{number(value / step)} {prefix}{unit}"
    return f"{value:.0f} {unit}".strip()


def bounds(found: Interval, unit: str) -> str:
    """Return a value in its unit with its interval: ``4.93× [4.71, 5.12]``."""
    value, low, high = found
    if low == value == high:
        return quantity(value, unit)
    word = {"%": _percent, "×": _ratio}.get(unit, number)
    return f"{quantity(value, unit)} [{word(low)}, {word(high)}]"


def _percent(value: float) -> str:
    return f"{value * 100:.2f}".rstrip("0").rstrip(".")


def _ratio(value: float) -> str:
    return f"{value:.2f}"
