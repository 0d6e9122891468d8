"""Ends the embedded Prefect server of a run that died without ending it.

Prefect stops the server it embeds when Python exits, so not if the run is killed. A guard process
waits on a pipe for the end of the run, whatever the reason, and then ends the servers that carry
the run's mark in their environment. This needs no signal that only one system has.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import uuid
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

MARK = "RAREFY_SERVER_OF"
"""Environment variable that a run's server inherits."""
SERVER = "prefect.server"
LOOKS, PAUSE, PATIENCE = 3, 1.0, 3.0
"""The guard looks several times: a server may be starting when the run dies."""


_guards: list[subprocess.Popen[bytes]] = []
"""This process's guard; it is kept because its pipe would be closed with it."""
_held: list[socket.socket] = []
"""The sockets, bound but not listening, that keep the ports of this process's servers for them."""


def start() -> None:
    """Mark the servers that this process starts from now on, and start the one guard of them."""
    if _guards:
        return
    _set_apart()
    mark = os.environ[MARK] = f"{os.getpid()}-{uuid.uuid4().hex}"
    guard = subprocess.Popen(
        [sys.executable, "-P", __file__, mark],
        stdin=subprocess.PIPE,  # closed by the system when this process ends
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C and a closed terminal end the run, not its guard
    )
    _guards.append(guard)


def _set_apart() -> None:
    """Give the servers that Prefect embeds in this process a session of their own.

    Ctrl-C in a terminal goes to all processes of its session. A run whose server has ended first
    cannot tell it how the run ended, and asks for minutes before it gives up.
    """
    from prefect.server.api import server

    popen = partial(subprocess.Popen, start_new_session=True)
    server.subprocess = SimpleNamespace(**{**vars(subprocess), "Popen": popen})
    server.SubprocessASGIServer.find_available_port = _own_port


def _own_port(_server: object = None) -> int:
    """Return a free port; on Linux, no other run takes it before this one's server listens on it.

    Prefect draws one of a thousand. A run that drew the one of another run, whose server had not
    started yet, would find that server in good health, use it, and wait for it when it is gone.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    port = int(held.getsockname()[1])
    if sys.platform == "linux":
        _held.append(held)
    else:  # where the server could not listen on a port that is bound
        held.close()
    return port


def end(mark: str) -> None:
    """End every server that carries ``mark``: politely, then by force."""
    import psutil

    for look in range(LOOKS):
        if look:
            time.sleep(PAUSE)
        found = [process for process in psutil.process_iter() if _carries(process, mark)]
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        for process in psutil.wait_procs(found, timeout=PATIENCE)[1]:
            with contextlib.suppress(psutil.Error):
                process.kill()


def _carries(process: psutil.Process, mark: str) -> bool:
    import psutil

    try:
        given = any(SERVER in word for word in process.cmdline())
        return given and process.environ().get(MARK) == mark
    except (psutil.Error, OSError):
        return False  # it ended meanwhile, or belongs to somebody else


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end(sys.argv[1])
