"""Prefect's own server shows what the run did."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from rarefy.flows.run.job import Job
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.errors import ProviderError, RecipeError
from rarefy.pipeline.verdict.verdict import Verdict
from tests.flows.runs import PASSES
from tests.project import Project, Said

MISSED = PASSES + "  - {metric: size, max: 0.5 kB}\n"


ONE_AFTER_ANOTHER = """
import json, os, sys

from rarefy.flows.cli import main

kept = [os.dup(1), os.dup(2)]
for number, command in enumerate(json.loads(sys.argv[1])):
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{number}.{name}", os.O_CREAT | os.O_WRONLY), descriptor)
    try:
        main(command)
    except SystemExit as ended:
        code = ended.code
    sys.stdout.flush()
    for descriptor, before in enumerate(kept, 1):
        os.dup2(before, descriptor)
    print(code or 0, flush=True)
"""


def run(project: Project, *commands: tuple[str | Path, ...]) -> list[Said]:
    """Run recipes through Prefect's embedded server, in one process, as in one session."""
    asked = [["run", *map(str, command)] for command in commands]
    done = subprocess.run(
        [sys.executable, "-c", ONE_AFTER_ANOTHER, json.dumps(asked)],
        cwd=project.folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), "nothing is said at the end either"
    codes = [int(line) for line in done.stdout.splitlines()]
    said = [
        [(project.folder / f"{number}.{name}").read_text() for name in ("out", "err")]
        for number in range(len(commands))
    ]
    return [Said(code, out, err) for code, (out, err) in zip(codes, said, strict=True)]


def rows(project: Project, query: str) -> list[tuple[object, ...]]:
    """Ask the database of the embedded server."""
    with sqlite3.connect(project.home / "prefect" / "prefect.db") as database:
        return database.execute(query).fetchall()


@pytest.mark.slow
def test_prefect_shows_a_cached_step_a_missed_budget_and_an_error(project: Project) -> None:
    """One process with all runs, because Prefect and its server take long to start.

    The first run's steps are executed while the server starts; the last run has nothing to compute.
    """
    passes = project.recipe("quickstages:Head", "quickstages:Judge", budgets=PASSES)
    larger = "quickstages:Judge: {size: 2000}"
    missed = project.recipe("quickstages:Head", larger, budgets=MISSED, name="missed")
    broken = project.recipe("quickstages:Head", "quickstages:Break", name="broken")
    first, second, third, last = run(
        project, (passes, "--json"), (missed,), (broken, "--json"), (missed, "-v")
    )
    assert (first.code, first.err) == (0, "")
    assert first.json["outcome"] == "pass"
    assert (second.code, second.out) == (3, "verdict: fail\n")
    assert "Traceback" not in second.err
    assert third.code == 2
    assert third.err == "rarefy: break: the weights are made of cheese\n"
    assert third.json["exit_code"] == 2
    assert (last.code, last.out) == (3, "verdict: fail\n")
    assert "every step is cached, so Prefect is not started\n" in last.err

    assert rows(project, "select state_type, state_name from flow_run order by created") == [
        ("COMPLETED", "Completed"),
        ("FAILED", "Failed"),
        ("FAILED", "Failed"),
    ]
    names = rows(project, "select name, state_name from task_run order by created")
    assert names == [
        ("model", "Completed"),
        ("head", "Completed"),
        ("judge", "Completed"),
        ("model", "Cached"),
        ("head", "Cached"),
        ("judge", "Completed"),
        ("model", "Cached"),
        ("head", "Cached"),
        ("break", "Failed"),
    ]
    kinds = rows(project, "select distinct type, key from artifact where key is not null")
    assert ("table", "rarefy-ledger-tiny") in kinds
    assert ("markdown", "rarefy-verdict-missed") in kinds

    stored = rows(project, "select task_inputs from task_run where name = 'head'")
    assert all("task_run" in str(row) for row in stored), "the order of the steps is shown"
    assert not [row for row in rows(project, "select data from task_run_state") if row[0]]


NOTEBOOK = """
import asyncio

import rarefy


async def cell():  # a cell of a notebook runs inside an event loop
    recipe = rarefy.Recipe(
        "broken",
        model="encoder",
        data={"train": "train.jsonl", "eval": "eval.jsonl", "max_length": 16},
        stages=["quickstages:Head", "quickstages:Break"],
    )
    try:
        rarefy.run(recipe, home="home", engine="prefect", quiet=True)
    except rarefy.ModelError as error:
        print(error)


asyncio.run(cell())
"""


@pytest.mark.long
def test_an_error_in_a_notebook_is_the_engine_s_own(project: Project) -> None:
    paths = (Path(__file__).parents[3], os.environ.get("PYTHONPATH", ""))
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK],
        cwd=project.folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout == "break: the weights are made of cheese\n", done.stderr


NOT_SHOWN = """
import httpx

from rarefy.flows.run import flow as prefect_flow


def away(**page):
    raise httpx.ConnectError("refused")


def wrong(**page):
    raise ValueError("a key with a capital")


prefect_flow.show_page(away, key="rarefy-ledger-a")
try:
    prefect_flow.show_page(wrong, key="A")
except ValueError as error:
    print(error, prefect_flow.key("ledger", "spam-de"))
"""


def test_a_page_that_a_server_cannot_take_now_ends_no_run(project: Project) -> None:
    paths = (Path(__file__).parents[3], os.environ.get("PYTHONPATH", ""))
    done = subprocess.run(
        [sys.executable, "-c", NOT_SHOWN],
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "PREFECT_HOME": str(project.home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "a key with a capital rarefy-ledger-spam-de\n", done.stderr
    assert "rarefy-ledger-a is not shown: refused" in done.stderr


def deployed_job(home: Path, store: str) -> Job:
    return Job(
        recipe="demo.yaml",
        home=str(home),
        out="",
        device="cpu",
        threads=1,
        command="rarefy run demo.yaml",
        store=store,
    )


def test_a_store_that_cannot_be_written_ends_a_deployed_run_before_its_first_stage(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from rarefy.flows.run import flow as prefect_flow

    monkeypatch.setattr(prefect_flow.jobs, "open_run", lambda *_: pytest.fail("it was opened"))
    store = "http://127.0.0.1:9/store"
    job = deployed_job(tmp_path, store)
    with pytest.raises(RecipeError, match="this remote is read-only"):
        prefect_flow._planned(job, Mock(), Mock())


def test_recipes_of_similar_names_have_artifacts_of_their_own() -> None:
    from prefect.client.schemas.actions import ArtifactCreate

    from rarefy.flows.run import flow as prefect_flow

    names = ["demo-v1", "demo.v1", "demo_v1", "demo--v1", "demo-", "demo."]
    keys = [prefect_flow.key("ledger", name) for name in names]
    assert len(set(keys)) == len(names)
    assert keys[0] == "rarefy-ledger-demo-v1"
    assert [ArtifactCreate(key=key, type="table").key for key in keys] == keys, "Prefect takes them"


def judged(outcome: str, reason: str) -> Any:
    """Return the result of a run with one budget."""
    size = {"metric": "size", "form": "max", "limit": 1.0, "outcome": outcome}
    verdict = Verdict(outcome=outcome, budgets=[{**size, "reason": reason}])
    data = SimpleNamespace(verdict=verdict)
    return SimpleNamespace(
        outcome=SimpleNamespace(data=data),
        paths={"report": "/runs/demo/report.html"},
        unrecorded=None,
        exit_code=verdict.exit_code,
    )


def test_an_inconclusive_budget_fails_a_strict_flow_alone() -> None:
    from rarefy.flows.run import flow as prefect_flow

    result = judged("inconclusive", "too few rows")
    assert prefect_flow._state(result, strict=False).is_completed()
    failed = prefect_flow._state(result, strict=True)
    assert (failed.is_failed(), failed.message) == (True, "too few rows (exit code 4)")


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        ("pass", "verdict: pass; not published: s3://m: away (exit code 5)"),
        ("fail", "1 kB; verdict: fail; not published: s3://m: away (exit code 3)"),
    ],
)
def test_a_store_that_is_away_at_the_end_does_not_hide_the_verdict(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outcome: str, message: str
) -> None:
    from rarefy.flows.run import flow as prefect_flow

    shown: list[str] = []

    def carried_out(job: Job) -> Any:
        assert Path(job.out) == tmp_path / "runs" / "nightly", "the deployment's own folder"
        return judged(outcome, "1 kB")

    def retried(name: str, work: Callable[[], Any]) -> Any:
        shown.append(name)
        if name == "publish":
            raise ProviderError("s3://m: away")
        return work()

    loaded = SimpleNamespace(recipe=SimpleNamespace(name="demo"))
    monkeypatch.setattr(prefect_flow, "retried", retried)
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__NAME", "Nightly!")
    monkeypatch.setattr(prefect_flow, "run_steps", lambda _, job, __: carried_out(job))
    monkeypatch.setattr(prefect_flow, "show_page", lambda _, **page: shown.append(page["key"]))
    monkeypatch.setattr(prefect_flow.markdown, "render", lambda _: "the verdict")
    monkeypatch.setattr(prefect_flow.jobs, "load", lambda _: loaded)
    monkeypatch.setattr(prefect_flow.jobs, "open_run", lambda *_: None)
    monkeypatch.setattr(prefect_flow.Remote, "open", lambda _: Mock())
    monkeypatch.setattr(prefect_flow.limits, "limit_of", lambda _: nullcontext())
    monkeypatch.setattr(prefect_flow.recording, "recorded", lambda *_: nullcontext(Mock()))
    job = deployed_job(tmp_path, "s3://m")
    state = prefect_flow._deployed(job, Home(tmp_path), Mock(), None, None)
    assert (state.is_failed(), state.message) == (True, message)
    assert shown == ["plan", "rarefy-verdict-demo", "publish", "rarefy-report-demo"]
