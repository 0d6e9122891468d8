"""The history entries of runs and validations."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from rarefy.pipeline.verdict.history import FILE
from tests.project import Project, Said

PASSES = "budgets:\n  - {metric: accuracy, min: 50 %}\n"
MISSED = PASSES + "  - {metric: size, max: 0.5 kB}\n"
STAGES = ("quickstages:Head", "quickstages:Judge")


@pytest.fixture
def project(trained_project: Project) -> Project:
    """The head is trained already: no test here is about it."""
    return trained_project


def test_a_run_is_a_verdict_once_and_a_new_verdict_is_another(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    recipe = project.recipe(*STAGES, budgets=PASSES)
    for _ in range(2):
        assert rarefy("run", recipe, "--engine", "inline").code == 0
    assert rarefy("run", project.recipe(*STAGES, budgets=MISSED), "--engine", "inline").code == 3
    listed = json.loads(rarefy("history", "--json").out)
    assert [verdict["outcome"] for verdict in listed] == ["fail", "pass"]
    assert [verdict["recipe"] for verdict in listed] == ["tiny", "tiny"]
    accuracy = next(one for one in listed[0]["numbers"] if one["metric"] == "accuracy")
    assert accuracy["value"] == 1
    assert rarefy("history", recipe).out.count("tiny") == 0  # one recipe: no column for it
    assert "✗ fail" in rarefy("history", recipe).out


@pytest.mark.parametrize("damage", ["damaged", "newer"])
def test_a_broken_history_costs_a_run_nothing_but_a_warning(
    project: Project, rarefy: Callable[..., Said], damage: str
) -> None:
    if damage == "newer":
        import sqlite3

        with sqlite3.connect(project.home / FILE) as database:
            database.execute("PRAGMA user_version = 99")
    else:
        (project.home / FILE).write_bytes(b"not a database at all\n" * 200)
    before = (project.home / FILE).read_bytes()
    said = rarefy("run", project.recipe(*STAGES, budgets=PASSES), "--engine", "inline")
    assert said.code == 0
    assert (project.home / "runs" / "tiny" / "verdict.json").exists()
    warning = [line for line in said.err.splitlines() if "warning" in line]
    assert len(warning) == 1
    assert "the verdict was not added to the history" in warning[0]
    assert (project.home / FILE).read_bytes() == before
    assert rarefy("history").code == 6


UNDECIDED = "budgets:\n  - {metric: accuracy, min: 95 %}\n"


@pytest.mark.parametrize(("budgets", "code"), [(MISSED, 3), (UNDECIDED, 6), (PASSES, 0)])
def test_what_is_no_pass_and_was_not_recorded_is_no_success(
    project: Project, rarefy: Callable[..., Said], budgets: str, code: int
) -> None:
    """20 of 20 rows right leave a minimum of 95 % undecided, which exits 0 if it is recorded."""
    recipe = project.recipe(*STAGES, budgets=budgets)
    assert rarefy("run", recipe, "--engine", "inline").code == (0 if code == 6 else code)
    (project.home / FILE).write_bytes(b"not a database at all\n" * 200)
    for command in (("run", recipe), ("ci", recipe, "--lenient", "--out", project.folder / "out")):
        said = rarefy(*command, "--engine", "inline")
        assert said.code == code
        lines = [line for line in said.err.splitlines() if "not added to the history" in line]
        assert len(lines) == 1
        assert ("`rarefy promote` would not know of it" in lines[0]) == (code != 0)
        assert (project.folder / "out" / "verdict.json").exists() or command[0] == "run"


@pytest.mark.slow
def test_a_bundle_that_is_validated_leaves_a_verdict(
    project: Project, rarefy: Callable[..., Said], known_times: None
) -> None:
    stages = ("quickstages:Head", "export")
    assert rarefy("run", project.recipe(*stages), "--engine", "inline").code == 0
    quick = (
        "validate: {processes: 2, seconds: 1, memory: false, fastest_float: false, cold_starts: 0}"
    )
    recipe = project.recipe(*stages, quick, budgets=PASSES.replace("50", "1"))
    said = rarefy("validate", "tiny", "--recipe", recipe, "--json")
    assert said.code == 0
    (verdict,) = json.loads(rarefy("history", "--json").out)
    assert verdict["bundle"] == json.loads(said.out)["bundle"]
    assert verdict["command"].startswith("rarefy validate tiny --recipe ")
    assert {one["metric"] for one in verdict["numbers"]} == {"accuracy", "latency_p50", "size"}
