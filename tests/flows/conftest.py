"""Tests of commands and flows."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _each_in_its_own_environment(own_environment: None) -> None:
    """What a flow sets for Prefect is gone after its test."""
