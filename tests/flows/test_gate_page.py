"""Follow the tutorial of a gate: a release, the workflow, and a pull request that is worse.

The store is a folder instead of a bucket.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.project import Project, Said
from tests.test_action import run_step

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/get-started/gate-a-pull-request.md").read_text()
STORE = "s3://my-models/rarefy"
STAGES = (
    "export",
    "validate: {processes: 3, seconds: 2, rows: 20, memory: false, cold_starts: 0, "
    "fastest_float: false}",
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def workflow() -> str:
    (text,) = (block for block in blocks("yaml") if "jobs:" in block)
    return text


def action_inputs() -> dict[str, str]:
    steps: list[dict[str, Any]] = yaml.safe_load(workflow())["jobs"]["gate"]["steps"]
    (step,) = (one for one in steps if "rarefy@" in one["uses"])
    return dict(step["with"])


def gate() -> list[str]:
    """Return the words of the page's command that judges as the job will."""
    (line,) = (line for line in "".join(blocks("bash")).splitlines() if "rarefy ci" in line)
    return shlex.split(line)[1:]


def test_the_workflow_fits_github_s_schema_and_asks_for_what_the_action_needs(
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.yml"
    path.write_text(workflow())
    check = Path(sys.executable).with_name("check-jsonschema")
    command = [str(check), "--builtin-schema", "vendor.github-workflows", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    known = yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]
    assert set(action_inputs()) <= set(known)
    assert "\n  pull-requests: write  # for the comment\n" in workflow()


def test_the_action_runs_the_command_that_the_page_shows(tmp_path: Path) -> None:
    known = yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]
    values = {name: each.get("default", "") for name, each in known.items()} | action_inputs()
    inputs = {name.upper(): str(value) for name, value in values.items()}
    code, calls = run_step("Run the gate", tmp_path, **inputs)
    assert (code, calls) == (0, [gate()])


@pytest.mark.slow
def test_a_release_and_a_pull_request_that_is_worse(
    trained_project: Project, rarefy: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's commands, budgets and comment, on a change that trains for one label only."""
    project = trained_project
    monkeypatch.chdir(project.folder)
    store = f"file://{project.folder}/store"
    (against,) = (block for block in blocks("yaml") if block.startswith("budgets:"))
    first = "budgets: [{metric: accuracy, min: 1 %}]\n"
    project.recipe("quickstages:Head", *STAGES, budgets=first, name="tickets").rename("recipe.yaml")

    run, promote = blocks("bash")[0].splitlines()
    for line in (run, promote):
        said = rarefy(*shlex.split(line.replace(STORE, store))[1:])
        assert said.code == 0, said.err

    worse = "quickstages:Head: {one_label: true}"
    project.recipe(worse, *STAGES, budgets=against, name="tickets").rename("recipe.yaml")
    said = rarefy(*[word.replace(STORE, store) for word in gate()])
    assert said.code == 3, said.err
    written = (project.folder / "rarefy-ci/summary.md").read_text()
    summary = written.replace("\\", "").replace(store, STORE).splitlines()
    (shown,) = blocks("text")
    title, _, counts, _, missed = shown.splitlines()
    assert summary[0] == title
    for line in (counts, summary[2]):  # a busy machine may leave latency undecided
        assert re.match(r"[12] of 3 budgets met; 1 missed", line), line
    assert hidden(missed) in map(hidden, summary)


def hidden(line: str) -> str:
    """Return a line without the number that was measured."""
    return re.sub(r"measured \S+ points", "measured", line)
