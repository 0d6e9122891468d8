"""Numbers of a run, bootstrapped once."""

from __future__ import annotations

import pytest

from rarefy.pipeline.report.ci.numbers import Measured, measured
from tests.pipeline.report.factory import report_data


@pytest.fixture(scope="session")
def numbers() -> list[Measured]:
    """The measurements of the factory's run, bootstrapped once for all tests."""
    return measured(report_data())
