"""The Prefect flow of a sweep, whose tasks are branches, and the runners that carry them.

Import it after ``prefect_settings.prepare``. Flow and task are defined once for all sweeps: workers
in other processes find them by name.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from contextvars import ContextVar
from typing import Any, Final

from prefect import flow, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.events.worker import EventsWorker
from prefect.futures import PrefectFuture
from prefect.logging.handlers import APILogWorker
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Failed, State
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows import branch, prefect_server, server_guard
from flows.workers import Where, Workers
from pipeline.terms.errors import ProviderError, RarefyError

NAME: Final = "rarefy-sweep"
SECONDS: Final = 20.0
"""How long a cluster may take to answer."""
DRAIN: Final = 10.0
"""Seconds that a server of our own is kept for the last events and logs of its flow."""
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

    token = _body.set(work)
    try:
        with _server(), tags("rarefy", f"sweep:{name}"):
            sweep(name, where.on, where.workers)
    finally:
        _body.reset(token)


@contextmanager
def _server() -> Iterator[None]:
    """Have a server that workers reach, too: each would embed one of its own."""
    if prefect_server.api_url() is not None:
        yield
        return
    server_guard.start()
    server = SubprocessASGIServer()
    server.start()
    try:
        with temporary_settings({PREFECT_API_URL: server.api_url}):
            yield
    finally:
        for service in (EventsWorker, APILogWorker):  # they send what is left while it is there
            service.drain_all(timeout=DRAIN, at_exit=False)
        server.stop()


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
    if isinstance(state.data, dict):
        return state.data
    raise RarefyError(state.message or f"its worker ended in state {state.name}")


def open_crew(where: Where, threads: int) -> AbstractContextManager[Crew]:
    """Start the workers of an executor, or reach those of a cluster.

    Args:
        where: The executor.
        threads: Those of a branch.

    Raises:
        ProviderError: The cluster does not answer, or has no worker for a branch.
    """
    if where.on == "dask":
        return _dask(where)
    if where.on == "ray":
        return _ray(where, threads)
    return _threads(where)


@contextmanager
def _threads(where: Where) -> Iterator[Crew]:
    _interrupted.clear()
    with ThreadPoolTaskRunner(max_workers=where.workers) as runner:
        try:
            yield Crew(runner, where.workers)
        finally:
            _interrupted.set()  # or the runner would wait for what still runs


@contextmanager
def _dask(where: Where) -> Iterator[Crew]:
    from prefect_dask import DaskTaskRunner

    if where.address is not None:
        size = _dask_workers(where.address)
        with DaskTaskRunner(address=where.address) as runner:
            yield Crew(runner, size)
        return
    with tempfile.TemporaryDirectory(prefix="rarefy-dask-") as folder:
        cluster = {
            "n_workers": where.workers,
            "threads_per_worker": 1,
            "processes": True,
            "memory_limit": 0,  # Dask would kill at its share, of which branches know nothing
            "dashboard_address": None,
            "local_directory": folder,
        }
        with DaskTaskRunner(cluster_kwargs=cluster) as runner:
            yield Crew(runner, where.workers)


def _dask_workers(address: str) -> int:
    """Return how many workers a Dask cluster has; ProviderError if none."""
    from distributed import Client

    try:
        with Client(address, timeout=SECONDS, set_as_default=False) as client:
            workers = client.scheduler_info(n_workers=-1)["workers"]
    except (OSError, ValueError) as error:
        raise ProviderError(f"{address}: no Dask scheduler answers: {error}") from error
    if not workers:
        raise ProviderError(f"{address}: the Dask scheduler has no workers")
    return len(workers)


@contextmanager
def _ray(where: Where, threads: int) -> Iterator[Crew]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from prefect_ray import RayTaskRunner
    from prefect_ray.context import remote_options

    logging.getLogger("ray").setLevel(logging.ERROR)
    size = where.workers
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if where.address is None:
        options |= {"num_cpus": size * threads, "include_dashboard": False}
    try:
        runner = RayTaskRunner(address=where.address, init_kwargs=options)
        with redirect_stdout(sys.stderr), runner:  # Ray says there that a worker died
            if where.address is not None:
                size = int(ray.cluster_resources().get("CPU", 0)) // threads
            if size < 1:
                raise ProviderError(f"{where.address}: no Ray worker has {threads} free cores")
            yield Crew(runner, size, lambda: remote_options(num_cpus=threads))
    except ConnectionError as error:
        raise ProviderError(f"{where.address}: no Ray cluster answers: {error}") from error
