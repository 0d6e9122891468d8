"""Where the branches of a sweep run: in this process, or in others of this machine or a cluster.

Apart from ``inline``, branches are tasks of a Prefect flow, which Prefect's task runners carry to
threads, Dask or Ray; each task runs its branch in a process of its own. What a branch makes does
not depend on where it runs.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import redirect_stdout
from importlib.util import find_spec
from typing import Any, Final

from rarefy.flows.server import prefect_settings
from rarefy.flows.server import server as prefect_server
from rarefy.flows.sweep import branch
from rarefy.flows.sweep.workers import Where, Workers
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.errors import ProviderError

EXTRAS: Final[dict[str, tuple[str, ...]]] = {
    "dask": ("prefect_dask", "distributed"),
    "ray": ("prefect_ray", "ray"),
}
"""Executor -> the modules that it needs; its extra is named like it."""

SECONDS: Final = 20.0
"""How long a cluster may take to answer."""
GREETING: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How HTTP/2, by which Ray's processes speak, begins (RFC 9113, 3.4), with empty settings."""
SETTINGS: Final = bytes([4])
"""The type, in its fourth byte, of the frame that a server must send first."""


class Inline:
    """Runs each branch in this process, before ``submit`` returns."""

    size = 1

    def submit(self, assignment: dict[str, Any]) -> Future[dict[str, Any]]:
        """Run a branch."""
        future: Future[dict[str, Any]] = Future()
        try:
            with redirect_stdout(sys.stderr):  # stdout has the sweep's own answer
                future.set_result(branch.run(assignment))
        except Exception as error:
            future.set_exception(error)
        return future


def check(where: Where) -> None:
    """Raise ProviderError if what an executor needs is not installed or does not answer."""
    for module in EXTRAS.get(where.on, ()):
        if find_spec(module) is None:
            package = module.replace("_", "-")
            raise ProviderError(
                f"a sweep on {where.on.capitalize()} needs {package}: "
                f"pip install 'rarefy[{where.on}]'"
            )
    if where.elsewhere:  # also raises for what is no address
        prefect_server.require(f"a sweep on the workers of {where.address}", "rarefy sweep …")


def check_ray(where: Where, seconds: float = SECONDS) -> None:
    """Raise ProviderError if no head of a Ray cluster listens at the address.

    Ray itself would try without an end. If Ray uses TLS, it is enough that something listens.
    """
    host, port = where.place
    if host is None or port is None:
        return
    try:
        with socket.create_connection((host, port), seconds) as connection:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
                return
            connection.sendall(GREETING)
            frame = connection.makefile("rb").read(4)
    except OSError as error:
        raise ProviderError(f"{where.address}: no Ray cluster answers: {error}") from error
    if not frame.endswith(SETTINGS):
        raise ProviderError(
            f"{where.address}: what listens there is no Ray cluster; unless another port was "
            "given, its head has 6379, and 10001 for ray://"
        )


def run(
    where: Where,
    home: Home,
    name: str,
    threads: int,
    body: Callable[[Workers], None],
    verbose: bool = False,
) -> None:
    """Call ``body`` with the workers, and end them after it, also if it is interrupted.

    Args:
        where: The executor.
        home: Has Prefect's folder.
        name: The sweep's, under which Prefect shows it.
        threads: Those of a branch.
        body: What to call.
        verbose: Whether to show Prefect's log.

    Raises:
        ProviderError: The workers cannot be started.
    """
    check(where)
    if where.on == "inline":
        body(Inline())
        return
    if where.on == "ray":
        check_ray(where)
    prefect_settings.prepare(home.prefect, verbose)
    from rarefy.flows.sweep import branch_tasks  # Prefect reads its settings when it is imported

    branch_tasks.run(where, name, threads, body)
