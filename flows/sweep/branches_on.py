"""Where the branches of a sweep run: in this process, or in others of this machine or a cluster.

Apart from ``inline``, branches are tasks of a Prefect flow, which Prefect's task runners carry to
threads, Dask or Ray; each task runs its branch in a process of its own. What a branch makes does
not depend on where it runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import redirect_stdout
from importlib.util import find_spec
from typing import Any

from rarefy.flows.server import prefect_settings
from rarefy.flows.server import server as prefect_server
from rarefy.flows.sweep import branch
from rarefy.flows.sweep.workers import Where, Workers
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.errors import ProviderError


class Inline:
    """Runs each branch in this process, before ``submit`` returns."""

    size = 1

    def submit(self, assignment: dict[str, Any]) -> Future[dict[str, Any]]:
        """Run a branch."""
        future: Future[dict[str, Any]] = Future()
        try:
            future.set_result(branch.run(assignment))
        except Exception as error:
            future.set_exception(error)
        return future


def check(where: Where) -> None:
    """Raise ProviderError if what an executor needs is not installed or does not answer."""
    on = where.on
    if on in ("dask", "ray") and find_spec(f"prefect_{on}") is None:
        raise ProviderError(
            f"a sweep on {on.capitalize()} needs another package: pip install prefect-{on}"
        )
    if where.elsewhere:
        prefect_server.require(f"a sweep on the workers of {where.address}", "rarefy sweep …")


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
    with redirect_stdout(sys.stderr):  # stdout has the sweep's own answer
        if where.on == "inline":
            body(Inline())
            return
        prefect_settings.prepare(home.prefect, verbose)
        from rarefy.flows.sweep import (
            branch_tasks,  # Prefect reads its settings when it is imported
        )

        branch_tasks.run(where, name, threads, body)
