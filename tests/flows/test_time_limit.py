"""A stage that takes too long ends with its run, even if it never comes back from C code."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows import prefect_server, time_limit
from pipeline.run.logbook import Logbook
from pipeline.store.home import Home
from tests.flows.runs import PASSES
from tests.project import Project

BLOCKED = {
    "in a sleep that a thread waits for": """
import threading
thread = threading.Thread(target=time.sleep, args=(600,))
thread.start()
thread.join()
""",
    "in native code that keeps the interpreter": """
re.match(r"(a+)+$", "a" * 60 + "b")
""",
    "with signals ignored": """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(600)
""",
}
HANGS = """
from typing import ClassVar
import time
from pipeline.store.artifact import Kind
from pipeline.stage import Stage


class Hang(Stage):
    name: ClassVar[str] = "hang"
    consumes: ClassVar = frozenset({Kind.ENCODER})

    def run(self, context, model):
        time.sleep(600)
"""
RUN = """
import re, signal, subprocess, sys, time
from flows import prefect_server, time_limit
from tests.project import Project
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
with time_limit.limit("distill", 1, {told}):
    {blocked}
"""


@pytest.mark.parametrize("how", BLOCKED)
def test_a_stage_that_blocks_is_ended_with_what_it_started(how: str) -> None:
    blocked = "\n    ".join(BLOCKED[how].strip().splitlines())
    done = run(RUN.format(told=None, blocked=blocked))
    assert done.returncode == -signal.SIGKILL
    assert done.stderr == (
        "rarefy: distill: stopped, because it took longer than 1 s; finished stages are kept\n"
    )
    with contextlib.suppress(psutil.NoSuchProcess):
        child = psutil.Process(int(done.stdout))
        assert child.status() == "zombie" or child.wait(30) is None  # else: TimeoutExpired


def test_a_stage_that_ends_in_time_goes_on() -> None:
    done = run(RUN.format(told=None, blocked="pass") + "child.kill()\nprint('on')")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("on\n")


WAITING = """
import threading
from pipeline.measure import alone
held = threading.Event()
def other():
    with alone.measuring():
        held.set()
        time.sleep(4)
threading.Thread(target=other).start()
held.wait()
with alone.measuring():
    print("measured", flush=True)
time.sleep({after})
"""


@pytest.mark.parametrize(("after", "code"), [(0, 0), (600, -signal.SIGKILL)])
def test_waiting_for_the_machine_does_not_count_but_what_comes_after_does(
    after: int, code: int
) -> None:
    blocked = "\n    ".join(WAITING.format(after=after).strip().splitlines())
    done = run(RUN.format(told=None, blocked=blocked) + "child.kill()\n")
    assert done.returncode == code
    assert done.stdout.endswith("measured\n")


def test_without_a_limit_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    with time_limit.limit("distill", None, None):
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, list[tuple[str | None, Any]]]]:
    """An API that keeps what it is told."""
    told: list[tuple[str | None, Any]] = []

    class Api(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/json"
            told.append((self.headers["Authorization"], json.loads(body)))
            self.send_response(201)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Api) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}/set_state", told
        found.shutdown()
        thread.join()


FORKED = """
import os, sys, time
from flows import prefect_server, time_limit
with time_limit.limit("distill", 4, None):
    child = os.fork()
    if not child:
        time.sleep(30)
        os._exit(0)
os.kill(child, 9)
time.sleep(5)
print("went on")
"""


def test_a_fork_that_outlives_the_stage_does_not_end_the_run() -> None:
    done = run(FORKED)
    assert (done.returncode, done.stdout) == (0, "went on\n")


def test_another_process_with_the_number_is_left_alone() -> None:
    own = psutil.Process()
    assert time_limit._process(own.pid, own.create_time()) == own
    assert time_limit._process(own.pid, own.create_time() - 1) is None


def test_a_clock_that_is_set_while_a_stage_runs_does_not_end_its_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    words.put(time_limit.WAITS)
    own = psutil.Process()
    run = time_limit._process(own.pid, own.create_time())
    assert run is not None
    born = own.create_time() + 3600
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: born)
    monkeypatch.setattr(time_limit, "LOOK", 0.1)
    threading.Timer(0.5, words.put, [time_limit.GOES_ON]).start()
    assert not time_limit._ends(words, 0.1, run.is_running)
    assert run.is_running()


def test_the_server_is_told_why_before_the_run_ends(server: Any, monkeypatch: Any) -> None:
    url, told = server
    monkeypatch.setenv("PREFECT_API_KEY", "secret")
    flow_run = {"url": url, "headers": prefect_server.authorization()}
    assert run(RUN.format(told=flow_run, blocked="time.sleep(600)")).returncode < 0
    [(who, body)] = told
    assert who == "Bearer secret"
    assert body["force"]
    assert body["state"]["type"] == "FAILED"
    assert body["state"]["message"].startswith("distill: stopped, because it took longer than 1 s")
    assert body["state"]["message"].endswith("(exit code 5)")


def test_a_server_that_is_away_does_not_save_the_stage() -> None:
    told = {"url": "http://127.0.0.1:9/api", "headers": {}}
    assert run(RUN.format(told=told, blocked="time.sleep(600)")).returncode == -signal.SIGKILL


def test_a_user_and_password_are_shown_as_prefect_does(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_API_KEY", "PREFECT_CLIENT_CUSTOM_HEADERS"):
        monkeypatch.delenv(name, raising=False)
    assert prefect_server.authorization() == {}
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "a:b")
    assert prefect_server.authorization() == {"Authorization": "Basic YTpi"}
    monkeypatch.setenv("PREFECT_CLIENT_CUSTOM_HEADERS", '{"CF-Access-Client-Id": "me"}')
    assert prefect_server.authorization() == {
        "Authorization": "Basic YTpi",
        "CF-Access-Client-Id": "me",
    }
    monkeypatch.setenv("PREFECT_CLIENT_CUSTOM_HEADERS", "none")  # Prefect itself says so
    assert prefect_server.authorization() == {"Authorization": "Basic YTpi"}


def test_a_gate_on_the_command_line_is_ended_and_says_why_wherever_it_is_asked(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Path(__file__).parents[2]  # the watch is to be of the same version
    monkeypatch.setenv("PYTHONPATH", f"{here}{os.pathsep}{os.environ['PYTHONPATH']}")
    (project.folder / "hanging.py").write_text(HANGS)
    stages = ("hanging:Hang", "quickstages:Judge")
    recipe, out = project.recipe(*stages, budgets=PASSES), project.folder / "out"
    options = ("--engine", "inline", "--stage-timeout", "5", "--json")
    code = "from flows.cli import main; main()"
    done = run(code, "ci", recipe, "--out", out, *options)
    assert done.returncode == -signal.SIGKILL
    said = json.loads(done.stdout)
    assert said["exit_code"] == 137
    # On a busy machine it may already be the import of the model.
    assert ": stopped, because it took longer than 5 s" in said["error"]
    assert said["error"] in done.stderr
    book = Logbook(Home(project.home))
    (entry,) = book.entries()
    assert (entry.state, entry.message) == ("killed", said["error"])
    assert book.log(entry.id).read_text().endswith(f"{said['error']}\n")
    for name in ("junit.xml", "summary.md"):
        assert "because it took longer than 5 s" in (out / name).read_text()


def test_a_folder_that_another_run_has_locked_does_not_save_the_stage(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, ended = threading.Event(), threading.Event()
    monkeypatch.setattr(time_limit, "LONGEST", 0.1)
    monkeypatch.setattr(time_limit, "_say", lambda _: hangs.wait())
    monkeypatch.setattr(time_limit, "_kill", lambda _: ended.set())
    monkeypatch.setattr(time_limit, "_process", lambda *_: psutil.Process())
    monkeypatch.setattr(time_limit.os, "_exit", lambda _: None)
    told = json.dumps({"process": 1, "born": 0.0, "seconds": 0.0}).encode()
    reader, writer = os.pipe()
    os.write(writer, told + b"\n")
    with os.fdopen(reader) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        time_limit._watch()
        os.close(writer)
    assert ended.is_set()
    hangs.set()


def test_a_full_disk_behind_stdout_does_not_hide_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    time_limit._say({"message": "why", "json": True, "home": None, "flow_run": None})
    assert capsys.readouterr().err == "rarefy: why\n"


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
