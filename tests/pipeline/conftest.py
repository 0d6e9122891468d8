"""Fixtures of the core."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def model(workshop) -> Path:
    """The workshop's model, to be changed."""
    return workshop.folder / "model"
