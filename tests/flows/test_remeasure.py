"""The references of a bundle that is measured again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.project import Project, Said

pytestmark = pytest.mark.usefixtures("quiet_machine")


def test_validate_needs_the_references(
    here: Project, rarefy: Callable[..., Said], tmp_path: Path
) -> None:
    bundle = shutil.copytree(here.home / "runs" / "tiny" / "bundle", tmp_path / "elsewhere")
    arguments = ("validate", bundle, "--recipe", here.folder / "tiny.yaml")
    said = rarefy(*arguments, "--home", tmp_path / "empty")
    assert said.code == 4
    assert "'head', but this store has no such checkpoint" in said.err
