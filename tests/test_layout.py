"""Tests mirror the source by file: the tests of pipeline/store/tags.py are in its test_tags.py.

Whoever changes a module finds its tests without searching, and sees when it has none.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("pipeline", "stages", "exporters", "flows")

ELSEWHERE = {
    "runs only inside a process that is measured; tested through the module that starts it": [
        "pipeline/measure/memory/cold_start_worker.py",
        "pipeline/measure/latency/worker.py",
        "pipeline/measure/load/worker.py",
        "pipeline/measure/memory/memory_worker.py",
    ],
    "runs only inside a process that answers; tested through the module that starts it": [
        "stages/label/shard_worker.py",
    ],
    "does nothing, by its name": ["pipeline/terms/progress.py"],
}
"""Modules with functions but no test file of their name, and why."""

LONGEST = 400
"""Lines of a file."""


def modules() -> set[str]:
    """Every source file that defines a function; files that only declare data have no behaviour."""
    found = set()
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            nodes = ast.walk(ast.parse(path.read_bytes()))
            if path.name != "__init__.py" and any(isinstance(n, ast.FunctionDef) for n in nodes):
                found.add(path.relative_to(ROOT).as_posix())
    return found


def mirrored(source: str) -> str:
    path = Path("tests", source)
    return path.with_name(f"test_{path.name}").as_posix()


def test_every_test_file_is_that_of_a_source_file() -> None:
    files = [path for folder in FOLDERS for path in (ROOT / "tests" / folder).rglob("test_*.py")]
    strays = []
    for path in files:
        inner = path.relative_to(ROOT / "tests")
        if not (ROOT / inner).with_name(inner.name.removeprefix("test_")).exists():
            strays.append(inner.as_posix())
    assert len(files) > 100
    assert strays == []


def test_every_module_with_behaviour_has_a_test_file() -> None:
    excused = {name for names in ELSEWHERE.values() for name in names}
    missing = {name for name in modules() if not (ROOT / mirrored(name)).exists()}
    assert sorted(missing - excused) == []
    assert sorted(excused - missing) == [], "these have a test file now, or are gone"


def test_no_file_is_too_long_to_be_read_at_once() -> None:
    lines = {
        path.relative_to(ROOT).as_posix(): len(path.read_bytes().splitlines())
        for folder in (*FOLDERS, "tests", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert len(lines) > 500
    assert {name: count for name, count in lines.items() if count > LONGEST} == {}
