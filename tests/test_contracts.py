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


ARROWS = [
    (
        "pipeline/verdict/judge.py",
        "import rarefy.stages.finetune",
        "folders",
        "rarefy.pipeline.verdict.judge -> rarefy.stages.finetune",
    ),
    (
        "exporters/build.py",
        "import rarefy.flows.cli",
        "folders",
        "rarefy.exporters.build -> rarefy.flows.cli",
    ),
    (
        "pipeline/terms/errors.py",
        "import rarefy.pipeline.store.store",
        "rooms",
        "rarefy.pipeline.terms.errors -> rarefy.pipeline.store.store",
    ),
    (
        "pipeline/measure/predictions/slices.py",
        "import rarefy.pipeline.verdict.judge",
        "rooms",
        "rarefy.pipeline.measure.predictions.slices -> rarefy.pipeline.verdict.judge",
    ),
    (
        "stages/surgery/units.py",
        "def late():\n    from rarefy.pipeline.run import engine",
        "engine",
        "rarefy.stages.surgery.units -> rarefy.pipeline.run.engine",
    ),
    (
        "exporters/saving.py",
        "import rarefy.pipeline.release.promotion",
        "engine",
        "rarefy.exporters.saving -> rarefy.pipeline.release.promotion",
    ),
    (
        "stages/export.py",
        "import rarefy.stages.finetune",
        "no stage",
        "rarefy.stages.export -> rarefy.stages.finetune",
    ),
    (
        "stages/surgery/vocabulary.py",
        "def late():\n    from rarefy.stages.distill import stage as distill",
        "no circles",
        ".surgery -> .distill",
    ),
]
"""File, lines that turn an arrow, the contract that they break, and the arrow as it is reported."""
SECTION = re.compile(r"^(.+)\n-+\n", re.MULTILINE)


def check(house: Path) -> str:
    """Check the contracts in the copy; return what the program prints."""
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [program, "--cache-dir", house / ".cache"],
        cwd=house,
        env={"PYTHONPATH": str(house), "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    broken = " BROKEN" in done.stdout
    assert done.returncode == int(broken), done.stdout + done.stderr
    assert re.search(r"Contracts: \d+ kept, \d+ broken", done.stdout)
    return done.stdout


def test_the_copy_keeps_every_contract(house: Path) -> None:
    assert "BROKEN" not in check(house)


@pytest.fixture(scope="module")
def reports(house: Path) -> dict[str, str]:
    """What is reported of each contract after all arrows were turned; a check takes seconds."""
    originals = {file: (house / file).read_text() for file, *_ in ARROWS}
    for file, lines, *_ in ARROWS:
        (house / file).write_text(f"{originals[file]}\n\n{lines}\n")
    try:
        printed = check(house)
    finally:
        for file, text in originals.items():
            (house / file).write_text(text)
    _, *parts = SECTION.split(printed.partition("Broken contracts\n")[2])
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize(("contract", "arrow"), [each[2:] for each in ARROWS])
def test_an_arrow_that_is_turned_breaks_its_contract(
    reports: dict[str, str], contract: str, arrow: str
) -> None:
    (report,) = (text for name, text in reports.items() if name.startswith(contract))
    assert f"{arrow} (" in report, report
