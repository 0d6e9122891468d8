"""Each import contract fails if an import goes in the wrong direction."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("pipeline", "stages", "exporters", "flows")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the four folders, the links to them, and their import contracts."""
    copy = tmp_path_factory.mktemp("house")
    for folder in FOLDERS:
        shutil.copytree(
            ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "*.html")
        )
    shutil.copytree(ROOT / "rarefy", copy / "rarefy", symlinks=True)
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def broken(house: Path) -> list[str]:
    """Return the names of the contracts that are broken in the copy."""
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [program, "--cache-dir", house / ".cache"],
        cwd=house,
        env={"PYTHONPATH": str(house), "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(r"^(.+?) BROKEN\b", done.stdout, re.MULTILINE)
    assert done.returncode == (1 if found else 0), done.stdout + done.stderr
    assert re.search(r"Contracts: \d+ kept, \d+ broken", done.stdout)
    return found


def test_the_copy_keeps_every_contract(house: Path) -> None:
    assert broken(house) == []


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("pipeline/verdict/judge.py", "import rarefy.stages.finetune", "folders"),
        ("exporters/build.py", "import rarefy.flows.cli", "folders"),
        ("pipeline/terms/errors.py", "import rarefy.pipeline.store.store", "rooms"),
        ("pipeline/measure/predictions/slices.py", "import rarefy.pipeline.verdict.judge", "rooms"),
        (
            "stages/surgery/units.py",
            "def late():\n    from rarefy.pipeline.run import engine",
            "engine",
        ),
        ("exporters/saving.py", "import rarefy.pipeline.release.promotion", "engine"),
        (
            "stages/surgery/units.py",
            "def late():\n    from rarefy.stages.distill import stage as distill",
            "no circles",
        ),
    ],
)
def test_an_arrow_that_is_turned_breaks_its_contract(
    house: Path, file: str, line: str, contract: str
) -> None:
    path = house / file
    before = path.read_text()
    path.write_text(f"{before}\n\n{line}\n")
    try:
        found = broken(house)
    finally:
        path.write_text(before)
    assert any(name.startswith(contract) for name in found), found
