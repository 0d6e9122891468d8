"""The Prefect flow of a sweep, whose tasks are branches, and the runners that carry them.

Import it after ``prefect_settings.prepare``. Flow and task are defined once for all sweeps: workers
in other processes find them by name.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    nullcontext,
)
from contextvars import ContextVar
from functools import partial
from typing import Any, Final
from urllib.parse import urlparse

from prefect import flow, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed, State
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from rarefy.flows.server import guard
from rarefy.flows.sweep import branch
from rarefy.flows.sweep.workers import Where, Workers
from rarefy.pipeline.terms.errors import ProviderError, RarefyError

NAME: Final = "rarefy-sweep"
SECONDS: Final = 20.0
"""How long a cluster may take to answer."""
TRIES: Final = 3
"""How often a worker starts a branch whose process dies."""

_body: ContextVar[Callable[[], None]] = ContextVar("body")
_interrupted = threading.Event()
"""Set when the processes of branches must end."""


def _run_branch(name: str, assignment: dict[str, Any]) -> State[dict[str, Any]]:
    """Run a branch in a process of its own, beside the worker that the task runner has chosen."""
    result = branch.run_in_process(assignment, _check_interrupt)
    if result["state"] == "failed":
        return Failed(message=result["why"], data=result)
    return Completed(name=result["state"].capitalize(), message=result["why"], data=result)


def _check_interrupt() -> None:
    if _interrupted.is_set():
        raise RarefyError("the sweep was interrupted")


def _is_worth_retrying(_task: object, _run: object, state: State[Any]) -> bool:
    """Whether to start a branch again: its process died, or an error may pass."""
    return not isinstance(state.data, dict) and not _interrupted.is_set()


def _sweep(name: str, on: str, workers: int) -> None:
    """Do what the context says: a flow's own parameters are stored, and must be plain."""
    _body.get()()


# Functions and what Prefect makes of them have different names: workers find functions by name, and
# a function whose name is the task's would be sent with all that its module has.
sweep = flow(name=NAME, persist_result=False, validate_parameters=False)(_sweep)
run_branch = task(
    task_run_name="{name}",
    retries=TRIES - 1,
    retry_condition_fn=_is_worth_retrying,
    cache_policy=NO_CACHE,
    persist_result=False,
)(_run_branch)


def run(where: Where, name: str, threads: int, body: Callable[[Workers], None]) -> None:
    """Call ``body`` with workers, inside of a flow; see ``branches_on.run``."""

    def work() -> None:
        with open_crew(where, threads) as crew:
            body(crew)

    _body.set(work)
    with guard.running(), tags("rarefy", f"sweep:{name}"):
        sweep(name, where.on, where.workers)


class Crew:
    """The workers of a task runner.

    Args:
        runner: Prefect's, open.
        size: How many branches it runs at once.
        options: What tasks are submitted in.
    """

    def __init__(
        self,
        runner: TaskRunner[Any],
        size: int,
        options: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.size = size
        self._runner, self._options = runner, options
        self._waiters = ThreadPoolExecutor(thread_name_prefix="branch", max_workers=size)

    def submit(self, assignment: dict[str, Any]) -> Future[dict[str, Any]]:
        """Submit a branch."""
        parameters = {"name": assignment["name"], "assignment": assignment}
        with self._options():
            future = self._runner.submit(run_branch, parameters)
        return self._waiters.submit(_result, future)


def _result(future: PrefectFuture[Any]) -> dict[str, Any]:
    """Wait for a branch. Raises RarefyError, or what the runner raises, if it was given up."""
    future.wait()
    state = future.state
    result = None if state.is_crashed() else state.result(raise_on_failure=False)
    if isinstance(result, dict):
        return result
    raise RarefyError(state.message or f"its worker ended in state {state.name}")


@contextmanager
def open_crew(where: Where, threads: int) -> Iterator[Crew]:
    """Start the workers of an executor, or reach those of a cluster.

    Args:
        where: The executor.
        threads: Those of a branch.

    Raises:
        ProviderError: The cluster does not answer.
    """
    with ExitStack() as stack:
        try:
            runner = stack.enter_context(_runner(where, threads))
        except (OSError, ValueError) as error:
            name = where.on.capitalize()
            raise ProviderError(f"{where.address}: no {name} cluster responds: {error}") from error
        _interrupted.clear()
        stack.callback(_interrupted.set)  # or the runner would wait for what still runs
        options: Callable[[], AbstractContextManager[Any]] = nullcontext
        if where.on == "ray":
            from prefect_ray.context import remote_options

            options = partial(remote_options, num_cpus=threads)
        yield Crew(runner, where.workers, options)


def _runner(where: Where, threads: int) -> TaskRunner[Any]:
    if where.on == "dask":
        return _dask(where)
    if where.on == "ray":
        return _ray(where, threads)
    return ThreadPoolTaskRunner(max_workers=where.workers)


def _dask(where: Where) -> TaskRunner[Any]:
    """Return the runner of a Dask cluster, or of one of processes on this machine."""
    from prefect_dask import DaskTaskRunner

    if where.address is not None:
        return DaskTaskRunner(address=where.address)
    cluster = {
        "n_workers": where.workers,
        "threads_per_worker": 1,
        "processes": True,
        "memory_limit": 0,  # Dask would kill at its share, of which branches know nothing
        "dashboard_address": None,
    }
    return DaskTaskRunner(cluster_kwargs=cluster)


def _ray(where: Where, threads: int) -> TaskRunner[Any]:
    """Return the runner of a Ray cluster, or of one on this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from prefect_ray import RayTaskRunner

    place = urlparse(f"//{where.address}".replace("//ray://", "//"))
    if place.port is not None:  # Ray itself would try without an end
        socket.create_connection((place.hostname, place.port), SECONDS).close()
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if where.address is None:
        options |= {"num_cpus": where.workers * threads, "include_dashboard": False}
    return RayTaskRunner(address=where.address, init_kwargs=options)
