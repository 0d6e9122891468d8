"""A temporary Prefect server for this process, which ends with it, however that ends.

The server is Prefect's own command in a process of ours that reads from a pipe. The system closes
the pipe when this process ends, also if it is killed. This needs no signal that only one system
has.
"""

from __future__ import annotations

import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

LOOPBACK: Final = "127.0.0.1"
ATTEMPTS: Final = 3
"""A port may be taken meanwhile, and of two servers that create one database, one may fail."""
PAUSE: Final = 0.1
"""Seconds between two looks at a server that starts."""
PATIENCE: Final = 3.0
"""Seconds that a server has to end by itself."""
SECONDS: Final = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
"""Prefect's setting of the seconds that a temporary server may take to start."""
SERVICES: Final = (
    "SCHEDULER",
    "LATE_RUNS",
    "PAUSE_EXPIRATIONS",
    "CANCELLATION_CLEANUP",
    "CLEANUP_RECONCILER",
    "FOREMAN",
    "REPOSSESSOR",
)
"""The services of a server that look after deployments and workers, which a run has not."""


@dataclass(frozen=True)
class _Server:
    process: subprocess.Popen[bytes]
    port: int
    port_holder: socket.socket

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/api"

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.port_holder.close()


_servers: list[_Server] = []
"""This process's server; it is kept because its pipe would be closed with it."""
_starting = threading.Lock()


@contextmanager
def running(deployments: bool = False) -> Iterator[None]:
    """Within this context, Prefect has a server: the one that its settings name, or a temporary.

    The temporary server serves this process until its end, and no other machine. Import Prefect's
    settings first (``prefect_settings.prepare``). Raises ProviderError if it does not start.

    ``deployments``: whether the temporary server starts their runs when they are due.
    """
    from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

    if get_current_settings().api.url:
        yield
        return
    with temporary_settings({PREFECT_API_URL: start(deployments)}):
        yield


def launch(deployments: bool = False) -> None:
    """Let this process's server begin to start, unless it has; ``start`` waits until it answers."""
    with _starting:
        if not _servers:
            _servers.append(_spawn(deployments))


def is_starting() -> bool:
    """Return whether this process's server was launched, lives, and does not answer yet."""
    from rarefy.flows.server import server as prefect_server

    with _starting:
        if not _servers or _servers[0].process.poll() is not None:
            return False
        return not prefect_server.answers(_servers[0].url)


def start(deployments: bool = False) -> str:
    """Start this process's server, unless it runs already, and return the address of its API.

    Raises ProviderError if it does not answer in time.
    """
    launch(deployments)
    with _starting:
        _wait_for_answer(deployments)
        return _servers[0].url


def _wait_for_answer(deployments: bool) -> None:
    """Wait until this process's server answers; if it ends, start another."""
    from rarefy.flows.server import server as prefect_server
    from rarefy.pipeline.terms.errors import ProviderError

    deadline = time.monotonic() + float(os.environ.get(SECONDS, "120"))
    why = "in time, as on a machine that is very busy"
    for attempt in range(ATTEMPTS):
        if attempt:
            _servers.append(_spawn(deployments))
        [server] = _servers
        while server.process.poll() is None:
            if time.monotonic() >= deadline:
                break
            if prefect_server.answers(server.url):
                return
            time.sleep(PAUSE)
        _servers.clear()
        server.stop()
        if time.monotonic() >= deadline:
            break
    else:
        why = f"(exit code {server.process.returncode})"
    raise ProviderError(
        f"Prefect's server did not start {why}; run again, or choose the engine 'inline', which "
        "needs none"
    )


def _spawn(deployments: bool) -> _Server:
    from rarefy.flows.server import server as prefect_server

    port_holder = hold_port()
    port = int(port_holder.getsockname()[1])
    if sys.platform != "linux":  # where no server could listen on a port that is bound
        port_holder.close()
    environment = dict(os.environ)
    if deployments:
        setting, value = prefect_server.REMEMBERS.split("=")
        environment.setdefault(setting, value)
    else:
        environment |= {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "0" for name in SERVICES}
    process = subprocess.Popen(
        [sys.executable, "-P", __file__, str(port)],
        env=environment,
        stdin=subprocess.PIPE,  # closed by the system when this process ends
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C ends the run, which then tells the server how it ended
    )
    return _Server(process, port, port_holder)


def hold_port() -> socket.socket:
    """Return a socket bound to a free port.

    On Linux, no other run takes the port before this one's server listens on it: that run would
    find this server in good health, use it, and wait for it when it is gone.
    """
    port_holder = socket.socket()
    port_holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    port_holder.bind((LOOPBACK, 0))
    return port_holder


def serve(port: str) -> None:
    """Be a Prefect server until standard input ends."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    options = ["--host", LOOPBACK, "--port", port, "--no-ui", "--analytics-off"]
    sys.argv = ["prefect", "--no-prompt", "server", "start", *options]
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


def _end_with_input() -> None:
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(1)


if __name__ == "__main__":
    serve(sys.argv[1])
