"""Copies of the finished run's record and of its bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.project import Project


@pytest.fixture
def file(here: Project, tmp_path: Path) -> Path:
    """A copy of the run's record that can be changed."""
    for name in ("answers.safetensors", "run.json"):
        shutil.copyfile(here.home / "runs" / "tiny" / name, tmp_path / name)
    return tmp_path / "run.json"
