"""The temporary Prefect server ends with its run, however that ends."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
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
from rarefy.pipeline.terms.errors import ProviderError
from tests.project import Project

ROOT = Path(__file__).parents[3]
SLEEPS = """

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


def marked(home: Path) -> list[psutil.Process]:
    """The processes whose Prefect folder is this project's: the run's server and workers."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("PREFECT_HOME") == str(home / "prefect"):
                found.append(process)
    return found


def servers(home: Path) -> list[psutil.Process]:
    found = []
    for process in marked(home):
        with contextlib.suppress(psutil.Error, OSError):
            if guard.__file__ in process.cmdline():
                found.append(process)
    return found


def settings_of(server: psutil.Process) -> dict[str, Any]:
    """Ask a server for its settings, after a look at who can reach it."""
    (listener,) = [each for each in server.net_connections() if each.status == "LISTEN"]
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
    project: Project,
    prefect_home: Callable[[Path], object],
    number: signal.Signals,
    send: Callable[[int, int], None],
) -> None:
    """A terminal sends Ctrl-C to all processes of its session: the run must end all the same."""
    modules = project.folder / "modules" / "quickstages.py"
    modules.write_text(modules.read_text() + SLEEPS)
    recipe = project.recipe("quickstages:Sleep")
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


def test_a_run_holds_its_servers_port_for_it() -> None:
    """Two runs that drew the same port shared a server, until it was gone."""
    with guard.hold_port() as holder, socket.socket() as another_run:
        address = holder.getsockname()
        with pytest.raises(OSError, match="in use"):
            another_run.bind(address)
        with socket.create_server(address) as server:  # as uvicorn listens
            assert server.getsockname() == address


def test_a_server_that_cannot_start_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(ProviderError, match=r"did not start \(exit code 1\); run again"):
        guard.start()
