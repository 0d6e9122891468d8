"""A Prefect server, a process work pool and a worker that shares with us only two addresses.

The worker has a directory, a home folder, environment variables and a virtual environment of its
own. The server's address and the store's are all that it and the rest have in common.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
POOL = "nightly"
SERVER_SECONDS = 600
WORKER_SECONDS = 300


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait(found: Callable[[], Any], seconds: float, what: str, pause: float = 0.5) -> Any:
    """Return what ``found`` returns as soon as it is true; AssertionError if it is late."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if value := found():
            return value
        time.sleep(pause)
    raise AssertionError(f"not within {seconds} s: {what}")


def make_environment(folder: Path) -> Path:
    """Make a virtual environment that can import this one's packages; return its Python."""
    venv.create(folder, with_pip=False, symlinks=True)
    place = next((folder / "lib").glob("python*")) / "site-packages"
    paths = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    (place / "shared.pth").write_text("\n".join(paths) + "\n")
    return folder / "bin" / "python"


@dataclass
class Fleet:
    """``folder`` holds everything; each part has a folder of its own in it."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    """Environment variables of the server."""
    port: int = field(default_factory=free_port)
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def store(self) -> str:
        return (self.folder / "store").as_uri()

    @property
    def desk(self) -> Path:
        """Where people write recipes and deploy them."""
        return self._made("desk")

    def _made(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def environment(self, part: str, **more: str) -> dict[str, str]:
        """Return the environment variables of a part: nothing of ours but where programs are."""
        own = self._made(part)
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(own),
            "PREFECT_HOME": str(own / "prefect"),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_NUM_THREADS": "1",
            **more,
        }

    @contextmanager
    def up(self) -> Iterator[Fleet]:
        """Start the server and the worker, which makes the pool; end all of it afterwards."""
        try:
            self.start_server()
            self.start_worker()
            wait(lambda: self.ask(f"work_pools/{POOL}"), WORKER_SECONDS, "the worker's pool")
            yield self
        finally:
            for name in list(self._running)[::-1]:
                self.stop(name)

    def start_server(self) -> None:
        words = ["server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        settings = self.settings | {
            # A run that was due is seen within a second or two, and this is not what is tested.
            "PREFECT_API_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
        }
        command = [sys.executable, "-m", "prefect", *words]
        self._start("server", command, self.environment("server", **settings))
        wait(lambda: self.ask("health") is not None, SERVER_SECONDS, "the server answers")

    def start_worker(self, name: str = "worker") -> None:
        python = self.folder / f"{name}-venv" / "bin" / "python"
        if not python.exists():
            make_environment(python.parents[1])
        words = ["worker", "start", "--pool", POOL, "--name", name, "--type", "process"]
        self._start(name, [str(python), "-m", "prefect", *words], self.environment(name))

    def _start(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        with (self._made("logs") / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command,
                env=environment,
                cwd=self._made(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """End a part with all that it has started."""
        process = self._running.pop(name)
        try:
            parts = psutil.Process(process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            parts = []
        process.send_signal(how)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for part in parts:
            if part.is_running():
                part.kill()

    def prefect(self, *words: str) -> str:
        return self._call("-m", "prefect", "--no-prompt", *words).stdout

    def rarefy(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Call rarefy at the desk; the exit code is for the caller to look at."""
        return self._call("-P", "-m", "rarefy.flows.cli", *map(str, words), check=False)

    def _call(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *words],
            env=self.environment("desk", PYTHONPATH=str(ROOT)),
            cwd=self.desk,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{words}: {done.stdout}{done.stderr}")
        return done

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask the server's API; None if it has nothing or is away."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.api}/{path}", data, {"Content-Type": "application/json"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as answer:
                return json.load(answer)
        except OSError:
            return None

    def runs(self, deployment: str, *states: str) -> list[dict[str, Any]]:
        """Return a deployment's flow runs, the first to start first; only in certain states."""
        body: dict[str, Any] = {"deployments": {"name": {"any_": [deployment]}}}
        found = self.ask("flow_runs/filter", body) or []
        wanted = [run for run in found if not states or run["state_type"] in states]
        return sorted(wanted, key=lambda run: run["start_time"] or "9")

    def log(self, name: str) -> str:
        return (self.folder / "logs" / f"{name}.log").read_text(errors="replace")
