"""Copies of the finished run's record and of its bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.project import Project


@pytest.fixture
def file(here: Project, tmp_path: Path) -> Path:
    """A copy of the run's record that can be changed."""
    return Path(shutil.copyfile(here.home / "runs" / "tiny" / "run.json", tmp_path / "run.json"))
