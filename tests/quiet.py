"""Measure as if the machine were quiet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def quiet() -> Iterator[None]:
    """Skip the check that the machine is quiet enough for a verdict.

    A module's or a session's fixture that measures uses it too: pytest makes those before a test's
    own fixtures, and what was measured on a noisy machine is not cached.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.measure.drift.found", lambda calls, rows: None)
        yield


@pytest.fixture
def quiet_machine() -> Iterator[None]:
    with quiet():
        yield
