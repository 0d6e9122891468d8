"""Measure as if the machine were quiet: a test host's other load decides no test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def quiet_machine() -> Iterator[None]:
    """Skip the check that the machine is quiet enough for a verdict, in every test.

    For the whole session, because the fixtures of a module or of the session measure too.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.measure.drift.found", lambda calls, rows: None)
        yield
