"""Tell which records are stale: what they measured has changed since."""

from __future__ import annotations

import ast
import json
import math
import subprocess
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rich.table import Table

from benchmarks import record

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results"
RECIPES = "rarefy.flows.start"
"""Who imports it runs recipes, whose stages are found by entry points."""
COMMANDS = "flows/commands"
"""What the command line imports by name."""
CALLS = ("rarefy.run(", ".venv/bin/rarefy", 'which("rarefy")')
"""How a script runs a recipe or a command."""


@dataclass(frozen=True)
class Age:
    """How old a record is, by those of its rows that were measured first.

    ``commit``, ``cpu``: at and on which they were. ``commits``: those since that touch a file that
    the benchmark imports; None if git does not know the commit, or no script of its name is left.
    """

    name: str
    cpu: str
    commit: str
    date: str
    commits: int | None


def ages() -> list[Age]:
    """Return the age of each record in ``results/``, the oldest first."""
    found = []
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text())
        date = result["time"][:10]
        of_origins = []
        for cpu, measured in record.origins(result):
            commit = measured.partition("+")[0]
            commits = _commits_since(commit, path.stem)
            of_origins.append(Age(path.stem, cpu, commit[:8], date, commits))
        found.append(max(of_origins, key=_commits_or_most))
    return sorted(found, key=lambda age: age.date)


def _commits_or_most(age: Age) -> float:
    return math.inf if age.commits is None else age.commits


def table() -> Table:
    """Return a table of the records, with those that are stale marked."""
    printed = Table("record", "of", "CPU", "commit", "commits since to what it imports")
    for age in ages():
        since = "unknown" if age.commits is None else str(age.commits)
        printed.add_row(age.name, age.date, age.cpu, age.commit, since)
    return printed


def _commits_since(commit: str, name: str) -> int | None:
    script = ROOT / f"benchmarks/{name}.py"
    if not script.is_file():
        return None
    files = [str(path.relative_to(ROOT)) for path in imported(script)]
    words = ["git", "rev-list", "--count", f"{commit}..HEAD", "--", *files]
    counted = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return int(counted.stdout) if counted.returncode == 0 else None


def imported(script: Path) -> set[Path]:
    """Return a script and all files of this project that it imports, directly or not.

    A script that runs a recipe or calls the command line imports every stage.
    """
    seen: set[Path] = set()
    waiting = [script]
    source = script.read_text()
    if any(call in source for call in CALLS):
        waiting += ROOT.joinpath(COMMANDS).glob("*.py")
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        names = _names(path)
        if RECIPES in names:
            names |= set(_stages())
        for name in names:
            waiting += _files(name)
    return seen


@cache
def _names(path: Path) -> frozenset[str]:
    """Return the names of the modules that a file imports, and of what it imports from them."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def _files(name: str) -> Iterable[Path]:
    """Return the files of a module of this project: itself, and its packages' ``__init__``."""
    words = name.split(".")
    if words[0] == "rarefy":
        words = words[1:]
    elif words[0] != "benchmarks":
        return []
    module = ROOT.joinpath(*words)
    paths = [module.with_suffix(".py"), module / "__init__.py"] if words else []
    return [path for path in paths if path.is_file()]


@cache
def _stages() -> frozenset[str]:
    """Return the modules of our stages and tasks, which are found by their entry points."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = project["entry-points"].values()
    return frozenset(place.split(":")[0] for group in groups for place in group.values())
