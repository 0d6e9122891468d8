"""The SVG shapes, scales and colours that the figures use."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

Scale = Callable[[float], float]
FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"


@dataclass(frozen=True)
class Palette:
    """Colours by their meaning. ``accent`` is for the candidate, ``other`` for a reference."""

    surface: str
    ink: str
    muted: str
    line: str
    accent: str
    other: str
    limit: str


PAGE = Palette(
    "var(--surface)",
    "var(--ink)",
    "var(--muted)",
    "var(--line)",
    "var(--accent)",
    "var(--other)",
    "var(--limit)",
)
"""The CSS variables of the page, which has a light and a dark theme."""


def text(
    x: float,
    y: float,
    content: str,
    fill: str,
    *,
    size: float = 12,
    anchor: str = "start",
    weight: int = 400,
) -> str:
    """Return a line of text whose baseline starts (or ends, or is centred) at x, y."""
    bold = f' font-weight="{weight}"' if weight != 400 else ""
    place = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" font-size="{size:g}"{bold}{place}>'
        f"{escape(content)}</text>"
    )


def line(
    x1: float, y1: float, x2: float, y2: float, stroke: str, width: float = 1, dash: str = ""
) -> str:
    """Return a straight line."""
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}" '
        f'stroke-width="{width:g}"{dashed}/>'
    )


def bar(x: float, y: float, width: float, height: float, fill: str) -> str:
    """Return a filled rectangle, at least a pixel wide so that a small value is visible."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height:.1f}" '
        f'rx="1.5" fill="{fill}"/>'
    )


def path(commands: str, stroke: str, width: float = 1.5, dash: str = "") -> str:
    """Return an unfilled path."""
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<path d="{commands}" fill="none" stroke="{stroke}" stroke-width="{width:g}" '
        f'stroke-linejoin="round"{dashed}/>'
    )


def mark(x: float, y: float, candidate: bool) -> str:
    """Return a filled diamond for the candidate, a hollow circle for any other model."""
    if candidate:
        return (
            f'<path d="M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z" fill="{PAGE.accent}" '
            f'stroke="{PAGE.surface}" stroke-width="1"/>'
        )
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.2" fill="{PAGE.surface}" '
        f'stroke="{PAGE.other}" stroke-width="2"/>'
    )


def group(tooltip: str, body: str) -> str:
    """Return a group with a tooltip, which needs no script."""
    return f"<g><title>{escape(tooltip)}</title>{body}</g>"


def document(
    name: str, width: float, height: float, title: str, description: str, body: str
) -> str:
    """Return the SVG element; ``name`` must be unique in the page, because ids are made from it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img" '
        f'aria-labelledby="{name}-title {name}-desc" font-family="{FONT}">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-desc">{escape(description)}</desc>{body}</svg>'
    )


def fit(content: str, pixels: float, size: float) -> str:
    """Cut a text to about ``pixels``, by the average letter width of a wide system font."""
    letters = max(int(pixels / (0.58 * size)), 2)
    return content if len(content) <= letters else content[: letters - 1] + "…"


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """Return the map of low..high to start..end; if low equals high, all map to the middle."""
    if high == low:
        return lambda value: (start + end) / 2
    return lambda value: start + (value - low) / (high - low) * (end - start)


def log(low: float, high: float, start: float, end: float) -> Scale:
    """Return the logarithmic map of low..high (both > 0) to start..end."""
    scale = linear(math.log(low), math.log(high), start, end)
    return lambda value: scale(math.log(value))


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Return round values in low..high whose step is 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten in low..high; linear ticks if there are under three."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]
    return values if len(values) >= 3 else ticks(low, high, 3)
