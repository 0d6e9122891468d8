"""The embedded Prefect server ends with its run, however that ends."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from flows import server_guard
from tests.project import Project

ROOT = Path(__file__).parents[2]
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
            if "uvicorn" in process.cmdline():
                found.append(process)
    return found


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
    project: Project, number: signal.Signals, send: Callable[[int, int], None]
) -> None:
    """A terminal sends Ctrl-C to all processes of its session: the run must end all the same."""
    modules = project.folder / "modules" / "quickstages.py"
    modules.write_text(modules.read_text() + SLEEPS)
    recipe = project.recipe("quickstages:Sleep")
    run = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "run", str(recipe)],
        cwd=project.folder,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ['PYTHONPATH']}"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until((project.folder / "started").exists, 300)
        assert servers(project.home)
        send(run.pid, number)
        _, said = run.communicate(timeout=120)
        wait_until(lambda: not servers(project.home), 60)
        wait_until(lambda: not marked(project.home), 60)
    finally:
        run.kill()
        for process in marked(project.home):
            process.kill()
    if number is signal.SIGTERM:
        assert said.endswith("rarefy: interrupted; finished stages are kept, run again to resume\n")
        assert run.returncode == 130


def test_the_guard_ends_only_its_own_run_s_servers() -> None:
    def server(mark: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", "import time; time.sleep(60)", "prefect.server"]
        return subprocess.Popen(command, env=os.environ | {server_guard.MARK: mark})

    mine, other = server("mine"), server("other")
    try:
        server_guard.end("mine")
        assert mine.wait(timeout=10) is not None
        assert other.poll() is None
    finally:
        for process in (mine, other):
            process.kill()
            process.wait()


def test_a_run_holds_its_servers_port_for_it() -> None:
    """Prefect draws ports: two runs that drew the same one shared a server, until it was gone."""
    port = server_guard._own_port()
    with socket.socket() as another_run, pytest.raises(OSError, match="in use"):
        another_run.bind(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", port)) as ours:  # as uvicorn listens
        assert ours.getsockname()[1] == port
    assert server_guard._own_port() != port
