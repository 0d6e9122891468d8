"""Measure as if the machine were quiet: a test host's other load decides no test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def quiet_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Skip the check that the machine is quiet enough for a verdict, in every test.

    For the whole session, because the fixtures of a module or of the session measure too.
    """
    with pytest.MonkeyPatch.context() as patch:
        # No test waits for the measurement of another one, or of the user's.
        patch.setenv("RAREFY_LOCKS", str(tmp_path_factory.mktemp("locks")))
        patch.setattr("rarefy.pipeline.measure.latency.drift.find_drift", lambda calls, sizes: None)
        # Most of a short session would be its warm-up, and writing over the caches.
        patch.setattr("rarefy.pipeline.measure.latency.session.WARM", 0.1)
        patch.setattr("rarefy.pipeline.measure.latency.session.CACHES", 2**20)
        yield
