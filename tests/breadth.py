"""Parameters of tests that go through many kinds of one thing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def broad(kinds: Iterable[str], *always: str) -> list[Any]:
    """Return all kinds as parameters; those but ``always`` are only gone through with all tests."""
    named = list(kinds)
    assert set(always) < set(named)
    return [pytest.param(kind, marks=() if kind in always else pytest.mark.long) for kind in named]
