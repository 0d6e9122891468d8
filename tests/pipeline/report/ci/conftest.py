"""Numbers of a run, bootstrapped once."""

from __future__ import annotations

import pytest

from pipeline.report.ci.numbers import Measured, measured
from tests.pipeline.report.factory import report_data


@pytest.fixture(scope="session")
def numbers() -> list[Measured]:
    """What was measured in the factory's run; its bootstrap is done once."""
    return measured(report_data())
