"""The outcome of a budget or a verdict, and which of several outcomes counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

Outcome = Literal["pass", "fail", "inconclusive"]
ORDER: Final[tuple[Outcome, ...]] = ("pass", "inconclusive", "fail")
"""From best to worst."""
SYMBOL: Final[dict[Outcome, str]] = {"pass": "✓", "inconclusive": "?", "fail": "✗"}


def worst(outcomes: Iterable[Outcome | None]) -> Outcome | None:
    """Return the worst of several outcomes; None (not judged) counts least."""
    return max(
        (outcome for outcome in outcomes if outcome is not None), key=ORDER.index, default=None
    )
