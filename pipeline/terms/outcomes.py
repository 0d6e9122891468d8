"""The outcome of a budget or a verdict, and how several outcomes combine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

Outcome = Literal["pass", "fail", "inconclusive"]
ORDER: Final[tuple[Outcome, ...]] = ("pass", "inconclusive", "fail")
"""From best to worst."""
SYMBOL: Final[dict[Outcome, str]] = {"pass": "✓", "inconclusive": "?", "fail": "✗"}


def worst(outcomes: Iterable[Outcome | None]) -> Outcome | None:
    """Return the worst outcome, ignoring None (not judged). Returns None if nothing was judged."""
    judged = [outcome for outcome in outcomes if outcome is not None]
    if not judged:
        return None
    return max(judged, key=ORDER.index)
