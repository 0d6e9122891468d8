"""The callback through which long-running work reports progress."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float, float, str], None]
"""Called as progress(done, total, note). It is cheap, so call it often."""


def silent(done: float, total: float, note: str) -> None:
    """Report nothing."""
