"""A recipe on a schedule: refused with a remedy, or served and run by a real Prefect server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import psutil
import pytest

from rarefy.flows.server import guard
from rarefy.flows.server import server as prefect_server
from rarefy.flows.server.server import answers
from tests.fleet import free_port, wait
from tests.flows.servers import servers
from tests.project import Project, Said

NIGHTLY = "0 3 * * *"


@pytest.fixture
def project(trained_project: Project) -> Project:
    """A project whose model is in the store, trained: no process has to load PyTorch for it."""
    return trained_project


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


def test_a_server_that_does_not_answer_is_named(
    project: Project, rarefy: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    recipe = project.recipe("quickstages:Head")
    options = ("--cron", NIGHTLY, "--timezone", "Europe/Berlin", "--strict")
    said = rarefy("schedule", recipe, *options)
    assert (said.code, said.out) == (5, "")
    assert "does not respond" in said.err
    assert f"export {prefect_server.ALONE}" in said.err
    assert f"export {prefect_server.NO_TELEMETRY}" in said.err, "or it ends without a network"
    again = f"rarefy schedule {recipe} --cron '{NIGHTLY}' --timezone Europe/Berlin --strict"
    assert again in said.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--cron", "every night"), "--cron 'every night'"),
        (("--cron", "0 0 3 * * *"), "expected five fields: minute, hour, day, month, weekday"),
        (("--cron", "0 3 31 2 *"), "--cron '0 3 31 2 *': no such time exists"),
        (("--cron", NIGHTLY, "--timezone", "Mars/Olympus"), "--timezone 'Mars/Olympus'"),
    ],
)
def test_a_wrong_schedule_is_an_error_of_usage(
    project: Project, rarefy: Callable[..., Said], arguments: tuple[str, ...], named: str
) -> None:
    said = rarefy("schedule", project.recipe("quickstages:Head"), *arguments)
    assert said.code == 2
    assert named in said.err


def test_the_recipe_is_checked_first(project: Project, rarefy: Callable[..., Said]) -> None:
    said = rarefy("schedule", project.recipe("quickstages:Nothing"), "--cron", NIGHTLY)
    assert said.code == 2
    assert "quickstages:Nothing" in said.err


def test_what_is_served_has_its_options_in_its_command_and_a_server_that_forgets_is_told(
    project: Project, rarefy: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect import Flow

    served: dict[str, Any] = {}
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setattr(guard, "running", lambda **_: nullcontext())
    monkeypatch.setattr(Flow, "serve", lambda _, **given: served.update(given))
    monkeypatch.setattr(prefect_server, "require", lambda *_: "http://127.0.0.1:9/api")
    monkeypatch.setattr(prefect_server, "forgets", lambda _: True)
    recipe = project.recipe("quickstages:Head")
    options = ("--device", "cpu", "--threads", "2", "--strict")
    said = rarefy("schedule", recipe, "--cron", NIGHTLY, *options, "--name", "Weekly")
    assert said.code == 0, said.err
    assert prefect_server.REMEMBERS in said.err
    given = served["parameters"]
    assert given["command"] == f"rarefy run --device cpu --threads 2 {recipe}"
    assert (given["threads"], given["strict"]) == (2, True)
    assert given["out"] == str(project.home.resolve() / "runs" / "weekly"), "no other schedule's"


@pytest.mark.slow
def test_without_a_server_one_is_started_that_runs_what_is_due(
    trained_project: Project, prefect_home: Callable[[Path], object]
) -> None:
    project = trained_project  # so that only the server takes long
    prefect_home(project.home / "prefect")
    recipe = project.recipe("quickstages:Head", "quickstages:Judge")
    report = project.home / "runs" / "tiny" / "report.html"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    every_minute = ("rarefy.flows.cli", "schedule", str(recipe), "--cron", "* * * * *")
    with process(every_minute, environment, project.folder):
        wait(report.is_file, 400, "the scheduled run has a report")
        (server,) = servers(project.home)
    psutil.wait_procs([server], timeout=60)
    assert not server.is_running(), "it ends with the command"
    log = (project.folder / "rarefy.flows.cli.log").read_text()
    assert "to run it now: PREFECT_API_URL=http://127.0.0.1:" in log


@pytest.mark.slow
def test_a_real_server_runs_what_is_scheduled(
    trained_project: Project, tmp_path: Path, prefect_home: Callable[[Path], object]
) -> None:
    project = trained_project
    prefect_home(tmp_path / "prefect")
    recipe = project.recipe("quickstages:Head", "quickstages:Judge")
    url = f"http://127.0.0.1:{free_port()}/api"
    environment = os.environ | {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "OMP_NUM_THREADS": "1",
    }
    server = ("prefect", "server", "start", "--host", "127.0.0.1", "--port", url[17:-4])
    serve = (
        "rarefy.flows.cli",
        "schedule",
        str(recipe),
        "--cron",
        NIGHTLY,
        "--timezone",
        "Europe/Berlin",
    )
    with process(server, environment, tmp_path):
        wait(lambda: answers(url), 120, "the server answers")
        with process(serve, environment, tmp_path):
            path = f"{url}/deployments/name/rarefy-compress/tiny"
            deployment = wait(lambda: ask(path), 120, "the deployment is there")
            schedules = [each["schedule"] for each in deployment["schedules"]]
            assert [(each["cron"], each["timezone"]) for each in schedules] == [
                (NIGHTLY, "Europe/Berlin")
            ]
            assert all(
                Path(deployment["parameters"][name]).is_absolute() for name in ("recipe", "home")
            )
            start = f"{url}/deployments/{deployment['id']}/create_flow_run"
            made = wait(lambda: ask(start, {}), 120, "the server takes the run")
            state = wait(lambda: ended(f"{url}/flow_runs/{made['id']}"), 240, "the run ends")
            assert state == "COMPLETED"
        left = wait(lambda: ask(path), 120, "the server answers")
        assert not left["paused"], "who restarts the process finds the schedule as it was"
        assert [each["active"] for each in left["schedules"]] == [True]
        assert left["tags"] == ["rarefy", "recipe:tiny"]
    assert (project.home / "runs" / "tiny" / "report.html").is_file()


def ended(path: str) -> str | None:
    answer = ask(path)
    found = answer["state"]["type"] if answer else None
    return found if found in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None


def ask(url: str, body: dict[str, Any] | None = None) -> Any:
    """GET, or POST a body; return None if the server has nothing or is too busy.

    The server answers 503 while another connection holds its SQLite file; nothing was done then,
    and Prefect's own client asks again too.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code in (404, 503):
            return None
        raise
    except TimeoutError:
        return None


@contextmanager
def process(module: tuple[str, ...], environment: dict[str, str], folder: Path) -> Iterator[None]:
    """Run ``python -m`` in its own session, and terminate the whole session."""
    with (folder / f"{module[0]}.log").open("w") as log:
        running = subprocess.Popen(
            [sys.executable, "-m", *module],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield
        finally:
            os.killpg(running.pid, signal.SIGTERM)
            try:
                running.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)
                running.wait()
