"""A run of a deployment, submitted and watched; a worker elsewhere runs it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rarefy.pipeline.terms.errors import ProviderError
from tests import fleet_recipes as recipes
from tests.fleet import POOL, ROOT, Fleet
from tests.project import Said

PAGE = ROOT / "docs/how-to/schedules-and-workers.md"
"""Its commands are run as they stand there, but for the store's address."""


def test_without_a_server_the_commands_are_said(
    rarefy: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    said = rarefy("submit", "demo", "--home", tmp_path)
    assert said.code == 5
    assert "rarefy submit demo" in said.err


def test_a_timeout_is_for_watching(rarefy: Callable[..., Said]) -> None:
    said = rarefy("submit", "demo", "--timeout", "60")
    assert (said.code, "--watch" in said.err) == (2, True)


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (ProviderError("the run is Running after 3 s"), 5, "the run is Running after 3 s"),
        (KeyboardInterrupt(), 130, "interrupted; the run continues"),
    ],
)
def test_a_watching_that_ends_early_says_which_run_goes_on(
    rarefy: Callable[..., Said],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    raised: BaseException,
    code: int,
    words: str,
) -> None:
    from rarefy.flows.server import prefect_settings
    from rarefy.flows.server import server as prefect_server

    def watch(*_: object, **__: object) -> None:
        raise raised

    submitted = SimpleNamespace(
        submit=lambda _: SimpleNamespace(id="0123", name="calm-owl"),
        watch=watch,
        GOES_ON="its page says how it ends",
        INTERRUPTED=130,
    )
    monkeypatch.setattr("rarefy.flows.deploy.submitted", submitted, raising=False)
    monkeypatch.setattr(prefect_settings, "prepare", lambda _: None)
    monkeypatch.setattr(prefect_server, "require", lambda *_: "http://127.0.0.1:9/api")
    command = ("submit", "demo", "--watch", "--home", tmp_path)
    said = rarefy(*command, "--json")
    told = json.loads(said.out)
    assert (said.code, told["flow_run"], told["exit_code"]) == (code, "0123", code)
    assert told["error"].startswith(words)
    said = rarefy(*command)
    assert (said.code, said.out, said.err.count(words)) == (code, "", 1)


@pytest.mark.slow
def test_a_worker_elsewhere_runs_what_is_deployed_and_its_verdict_is_the_exit_code(
    tmp_path: Path, prefect_home: Callable[[Path], object]
) -> None:
    """One fleet for all of it, because a server and a worker take long to start.

    The page's commands are run on a recipe that misses a budget.
    ``benchmarks/deployed.py`` shows the rest: schedules, restarts, a cold worker.
    """
    fleet = Fleet(tmp_path)
    prefect_home(tmp_path / "server" / "prefect")
    recipes.make(fleet)
    flaky = ("fleetstages:Flaky", "fleetstages:Judge")
    missed = recipes.recipe(fleet, "demo", *flaky, budgets=recipes.MISSED)
    wrong = recipes.recipe(fleet, "wrong", "fleetstages:Head", "fleetstages:Judge")
    schedule, deploy, submit = commands(fleet)
    assert schedule[0] == "schedule", "it would serve until it is stopped; test_schedule.py does"
    with fleet.up():
        unknown = fleet.rarefy("deploy", missed.name, "--pool", "nigthly", "--store", fleet.store)
        assert unknown.returncode == 2
        assert "--pool nigthly: the server has no such work pool" in unknown.stderr
        assert "prefect work-pool create nigthly --type process" in unknown.stderr

        theirs = fleet.desk / "flows"
        theirs.mkdir()
        (theirs / "__init__.py").write_text("raise RuntimeError('of the same name as ours')")
        done = fleet.rarefy(*deploy)
        assert done.returncode == 0, done.stderr
        applied = fleet.ask("deployments/name/rarefy-compress/demo")
        assert applied["parameters"]["recipe"].startswith(f"{fleet.store}/recipes/demo-")
        assert applied["concurrency_limit"] or applied["global_concurrency_limit"]["limit"] == 1
        assert applied["concurrency_options"]["collision_strategy"] == "ENQUEUE"
        assert len(applied["schedules"]) == 1
        done = fleet.rarefy("deploy", missed.name, "--pool", POOL, "--store", fleet.store)
        assert done.returncode == 0, done.stderr
        applied = fleet.ask("deployments/name/rarefy-compress/demo")
        assert applied["schedules"] == [], "without --cron, on demand only"

        misspelt = fleet.rarefy("submit", "dema")
        assert misspelt.returncode == 2
        assert "did you mean 'demo'?" in misspelt.stderr

        watched = fleet.rarefy(*submit, "--json")
        assert watched.returncode == 3, watched.stderr
        told = json.loads(watched.stdout)
        assert (told["state"], told["exit_code"]) == ("Failed", 3)
        assert told["report"].startswith(f"{fleet.store}/runs/demo/")
        assert Path(told["report"].removeprefix("file://")).is_file()
        assert "flaky" in watched.stderr, "the run's log is shown"
        attempts = {task["name"]: task["run_count"] for task in tasks(fleet, "demo")}
        assert (attempts["flaky"], attempts["judge"]) == (2, 1), "a fault that passed"
        keys = {each["key"] for each in fleet.ask("artifacts/filter", {})}
        assert {"rarefy-ledger-demo", "rarefy-verdict-demo", "rarefy-report-demo"} <= keys

        git(fleet, "init", "--initial-branch=main")
        git(fleet, "add", ".")
        git(fleet, "commit", "--message=one")
        address = f"{fleet.desk.as_uri()}@main:wrong.yaml"
        deployed = fleet.rarefy("deploy", wrong.name, "--pool", POOL, "--git", address)
        assert deployed.returncode == 0, deployed.stderr
        met = fleet.rarefy("submit", "wrong", "--watch")
        assert met.returncode == 0, met.stderr
        done_before = len(tasks(fleet, "wrong"))
        assert done_before > 0
        wrong.write_text(wrong.read_text().replace("fleetstages:Judge", "fleetstages:Jugde"))
        git(fleet, "commit", "--all", "--message=two")
        code = fleet.rarefy("submit", "wrong", "--watch").returncode
        assert code == 2
        assert len(tasks(fleet, "wrong")) == done_before, "a wrong recipe is not tried again"


def commands(fleet: Fleet) -> list[list[str]]:
    """Return the words of the page's commands, for the fleet's store."""
    lines = re.findall(r"^rarefy (.*)$", PAGE.read_text(), re.MULTILINE)
    return [shlex.split(line.replace("$STORE", fleet.store)) for line in lines]


def git(fleet: Fleet, *words: str) -> None:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *words]
    subprocess.run(command, cwd=fleet.desk, check=True, capture_output=True)


def tasks(fleet: Fleet, deployment: str) -> list[dict[str, Any]]:
    runs = [run["id"] for run in fleet.runs(deployment)]
    found: list[dict[str, Any]] = fleet.ask(
        "task_runs/filter", {"flow_runs": {"id": {"any_": runs}}}
    )
    return found
