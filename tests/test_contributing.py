"""Follow the worked pages in docs/project/contributing to their end in a copy of the project.

A block whose first line is ``# path`` is that file. A ``diff`` block changes the file it names: the
lines it removes or keeps must occur there exactly once; ``# path -> other`` changes a copy instead.
Then the pages' own tests run in the copy of the project.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest

import rarefy
from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.run.engine import Run
from rarefy.pipeline.run.plan.plan import Plan
from tests.conftest import Workshop, execute

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs/project/contributing").glob("adding-*.md"))
BLOCK = re.compile(r"^```(\w+)\n# (\S+(?: -> \S+)?)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
pytestmark = pytest.mark.slow
COPIED = ("rarefy", "pipeline", "exporters", "stages", "flows", "tests", "examples", "schema")


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """Return language, file and text of a page's blocks."""
    found = BLOCK.findall(page.read_text())
    assert len(found) == len(re.findall(r"^```\w+$", page.read_text(), re.MULTILINE))
    return found


def own_tests(page: Path) -> list[str]:
    return [file for _, file, _ in blocks(page) if Path(file).name.startswith("test_")]


def apply(change: str, file: Path) -> None:
    lines = change.splitlines()
    before = "\n".join(line[1:] for line in lines if line[0] in " -")
    after = "\n".join(line[1:] for line in lines if line[0] in " +")
    text = file.read_text()
    assert text.count(before + "\n") == 1, f"this stands no longer once in {file.name}:\n{before}"
    file.write_text(text.replace(before + "\n", after + "\n"))


def register(tree: Path) -> None:
    """Write the entry points to where Python looks for them, as ``pip install -e .`` does."""
    project = tomllib.loads((tree / "pyproject.toml").read_text())["project"]
    info = tree / "rarefy.egg-info"
    info.mkdir()
    (info / "PKG-INFO").write_text(f"Name: rarefy\nVersion: {rarefy.__version__}\n")
    groups = project["entry-points"] | {"console_scripts": project["scripts"]}
    lines = [
        line
        for group, points in groups.items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in points.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which every page has been followed to its end."""
    tree = tmp_path_factory.mktemp("contributing")
    partial = shutil.ignore_patterns("*.pyc.*")  # bytecode that another process writes just now
    for name in COPIED:
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=partial)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tree)
    for page in PAGES:
        for language, file, text in blocks(page):
            if language == "diff":
                if " -> " in file:
                    file = shutil.copy(*(tree / name for name in file.split(" -> ")))
                apply(text, tree / file)
                continue
            assert not (tree / file).exists(), f"{file} is there already"
            (tree / file).parent.mkdir(exist_ok=True)
            if file.startswith("tests/"):
                (tree / file).with_name("__init__.py").touch()
            (tree / file).write_text(text)
    register(tree)
    return tree


def call(tree: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(tree)}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=tree, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def ran(tree: Path) -> dict[str, list[ElementTree.Element]]:
    """Run the tests of all pages in one process; return the test cases per file."""
    files = [file for page in PAGES for file in own_tests(page)]
    report = tree / "junit.xml"
    done = call(tree, "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *files)
    assert report.exists(), done.stdout + done.stderr
    cases: dict[str, list[ElementTree.Element]] = {file: [] for file in files}
    for case in ElementTree.parse(report).iter("testcase"):
        cases[str(case.get("classname")).replace(".", "/") + ".py"].append(case)
    return cases


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_followed_to_its_end_passes_its_own_tests(page: Path, ran) -> None:
    assert own_tests(page), "a page has a test of what it adds"
    for file in own_tests(page):
        assert ran[file]
        failed = [
            (case.get("name"), found.text)
            for case in ran[file]
            for found in case
            if found.tag in ("failure", "error", "skipped")
        ]
        assert not failed


def test_the_pages_code_is_as_the_house_wants_it(tree: Path) -> None:
    named = [file.split(" -> ")[-1] for page in PAGES for _, file, _ in blocks(page)]
    files = [file for file in named if file.endswith(".py")]
    assert (done := call(tree, "ruff", "format", "--check", *files)).returncode == 0, done.stdout
    assert (done := call(tree, "ruff", "check", *files)).returncode == 0, done.stdout
    contracts = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    done = subprocess.run(contracts, cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_stage_beside_a_recipe_runs_on_the_tiny_model(workshop: Workshop) -> None:
    page = ROOT / "docs/project/contributing/adding-a-stage.md"
    own = {file: text for language, file, text in blocks(page) if "/" not in file}
    for file in ("sparsify.py", "sparse.yaml"):
        (workshop.folder / file).write_text(own[file])
    plan = Plan(recipes.load(workshop.folder / "sparse.yaml"), workshop.store, threads=1)
    finished = execute(Run(plan))
    assert list(finished) == ["model", "finetune", "sparsify"]
    (metric,) = finished["sparsify"].artifact.manifest.metrics
    assert metric.value == pytest.approx(0.3, abs=0.01)
