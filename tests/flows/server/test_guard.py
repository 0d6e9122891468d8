"""The temporary Prefect server ends with its run, however that ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from rarefy.flows.server import guard
from tests.flows.servers import marked, servers
from tests.project import Project

ROOT = Path(__file__).parents[3]
SLEEPS = """
from quickstages import Head

class Sleep(Head):
    name = "sleep"

    def run(self, context, model):
        import pathlib, time
        pathlib.Path("started").touch()
        time.sleep(300)
"""


def wait_until(true, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.1)


def listeners(server: psutil.Process) -> list[Any]:
    listening = (each for each in psutil.net_connections() if each.status == "LISTEN")
    return [each for each in listening if each.pid == server.pid]


def settings_of(server: psutil.Process) -> dict[str, Any]:
    """Ask a server for its settings, after a look at who can reach it."""
    wait_until(lambda: listeners(server), 300)  # the first stage does not wait for it
    (listener,) = listeners(server)
    assert listener.laddr.ip == "127.0.0.1"
    address = f"http://127.0.0.1:{listener.laddr.port}/api/admin/settings"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=60) as response:
        settings: dict[str, Any] = json.load(response)
    return settings


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "send"),
    [
        pytest.param(signal.SIGTERM, os.kill, id="SIGTERM", marks=pytest.mark.long),
        pytest.param(signal.SIGKILL, os.kill, id="SIGKILL"),
        pytest.param(signal.SIGTERM, os.killpg, id="as-from-a-terminal"),
    ],
)
def test_no_server_outlives_its_run(
    trained_project: Project,
    prefect_home: Callable[[Path], object],
    number: signal.Signals,
    send: Callable[[int, int], None],
) -> None:
    """A terminal sends Ctrl-C to all processes of its session: the run must end all the same."""
    project = trained_project  # so that only the server takes long to start
    (project.folder / "modules" / "sleepstages.py").write_text(SLEEPS)
    recipe = project.recipe("sleepstages:Sleep")
    prefect_home(project.home / "prefect")
    run = subprocess.Popen(
        [sys.executable, "-m", "rarefy.flows.cli", "run", str(recipe)],
        cwd=project.folder,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ['PYTHONPATH']}"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until((project.folder / "started").exists, 300)
        (server,) = servers(project.home)
        settings = settings_of(server)["server"]
        assert settings["api"]["cors_allowed_origins"] == "http://127.0.0.1"
        assert not settings["analytics_enabled"]
        assert not settings["services"]["scheduler"]["enabled"], "deployments are left alone"
        send(run.pid, number)
        _, said = run.communicate(timeout=120)
        wait_until(lambda: not servers(project.home), 60)
        wait_until(lambda: not marked(project.home), 60)
    finally:
        run.kill()
        for process in marked(project.home):
            process.kill()
    if number is signal.SIGTERM:
        assert said.endswith(
            "rarefy: interrupted; finished stages are stored, run again to resume\n"
        )
        assert run.returncode == 130


LAUNCHES = """
import time

from rarefy.flows.server import guard

guard.launch()
assert guard.is_starting()
[server] = guard._servers
print(server.process.pid, flush=True)
time.sleep(300)
"""


def test_a_server_that_still_starts_ends_with_its_run(project: Project) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PREFECT_HOME": str(project.home)}
    run = subprocess.Popen(
        [sys.executable, "-c", LAUNCHES], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert run.stdout is not None
        server = psutil.Process(int(run.stdout.readline()))
    finally:
        run.kill()
        run.communicate()
    gone, _ = psutil.wait_procs([server], timeout=60)
    assert gone == [server]


def test_a_run_holds_its_servers_port_for_it() -> None:
    """Two runs that drew the same port shared a server, until it was gone."""
    with guard.hold_port() as holder, socket.socket() as another_run:
        address = holder.getsockname()
        with pytest.raises(OSError, match="in use"):
            another_run.bind(address)
        with socket.create_server(address) as server:  # as uvicorn listens
            assert server.getsockname() == address


def test_a_server_that_cannot_start_is_one_error() -> None:
    """In a process of its own: another test's server may run in this one."""
    code = (
        "import shutil, sys; from rarefy.flows.server import guard\n"
        "sys.executable = shutil.which('false'); guard.start()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ProviderError: Prefect's server did not start (exit code 1); run again" in done.stderr
