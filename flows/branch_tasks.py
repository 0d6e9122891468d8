"""The Prefect flow of a sweep, whose tasks are branches, and the runners that carry them.

Import it after ``prefect_settings.prepare``. Flow and task are defined once for all sweeps: workers
in other processes find them by name.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    nullcontext,
    redirect_stdout,
    suppress,
)
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, TypeVar

from prefect import flow, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed, State
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner
from prefect.tasks import Task

from flows import branch, machine_limit, server_guard
from flows.workers import Where, Workers
from pipeline.measure import alone
from pipeline.terms.errors import ProviderError, RarefyError

NAME: Final = "rarefy-sweep"
SECONDS: Final = 20.0
"""How long a cluster may take to answer."""

ENDED: Final = "ended"
"""The file, beside those with the numbers of processes, that says that they must end."""

Made = TypeVar("Made")
AnyRunner = TaskRunner[Any]
_body: ContextVar[Callable[[], Any]] = ContextVar("body")
_stdout = threading.Lock()
_ended = threading.Event()
"""Set when branches in processes of their own must end."""


def _in_worker(name: str, given: dict[str, Any]) -> State[dict[str, Any]]:
    """Run a branch in the process that the task runner has chosen."""
    with _stdout_free(), alone.also(machine_limit.limit_of(None)):
        return _state(branch.run(given))


def _in_process(name: str, given: dict[str, Any]) -> State[dict[str, Any]]:
    """Run a branch in a process that a thread of the task runner starts and watches."""
    return _state(branch.in_process(given, _raise_if_ended))


def _raise_if_ended() -> None:
    if _ended.is_set():
        raise RarefyError("the sweep was interrupted")


@contextmanager
def _stdout_free() -> Iterator[None]:
    """Let what a branch prints go to stderr: stdout may be the sweep's, for its own answer.

    Also what native code prints. One branch at a time runs in a process anyway.
    """
    with _stdout, redirect_stdout(sys.stderr):
        own = os.dup(1)
        os.dup2(2, 1)
        try:
            yield
        finally:
            os.dup2(own, 1)
            os.close(own)


def _state(made: dict[str, Any]) -> State[dict[str, Any]]:
    """Return the state in which Prefect shows a branch."""
    if made["state"] == "failed":
        return Failed(message=made["why"], data=made)
    return Completed(name=made["state"].capitalize(), message=made["why"], data=made)


def _sweep(name: str, on: str, workers: int) -> None:
    """Do what the context says: a flow's own parameters are stored, and must be plain."""
    _body.get()()


# Functions and what Prefect makes of them have different names: workers find functions by name, and
# a function whose name is the task's would be sent with all that its module has.
sweep = flow(name=NAME, persist_result=False, validate_parameters=False)(_sweep)
_as_task = task(task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
in_worker, in_process = _as_task(_in_worker), _as_task(_in_process)


def run(where: Where, name: str, threads: int, body: Callable[[Workers], Made]) -> Made:
    """Call ``body`` with workers, inside of a flow; see ``branches_on.run``."""
    made: list[Made] = []
    errors: list[BaseException] = []

    def inside() -> None:
        try:
            with _crew(where, threads) as crew:
                made.append(body(crew))
        except BaseException as error:
            errors.append(error)
            raise

    with server_guard.running(), tags("rarefy", f"sweep:{name}"):
        token = _body.set(inside)
        try:
            state = sweep(name, where.on, where.workers, return_state=True)
        finally:
            _body.reset(token)
    if errors:
        raise errors[-1]
    if not made:
        raise RarefyError(f"the flow ended in state {state.name}: {state.message}")
    return made[-1]


class Crew:
    """Workers behind task runners: one runner for all, or one for each."""

    def __init__(
        self,
        work: Task[..., Any],
        slots: list[Slot],
        around: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.size = len(slots)
        self._work, self._around = work, around
        self._free: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        for slot in slots:
            self._free.put(slot)
        self._watch = ThreadPoolExecutor(self.size, "branch")

    def submit(self, given: dict[str, Any]) -> Future[dict[str, Any]]:
        """Start a branch in a free slot; there must be one."""
        slot = self._free.get_nowait()
        with self._around():
            future = slot.runner().submit(self._work, {"name": given["name"], "given": given})
        return self._watch.submit(self._answer, slot, future)

    def _answer(self, slot: Slot, future: PrefectFuture[Any]) -> dict[str, Any]:
        try:
            return _answer(future)
        except BaseException:
            slot.broken = True
            raise
        finally:
            self._free.put(slot)


class Slot:
    """A place for one branch at a time. A runner of its own is opened again if it broke."""

    def __init__(self, runner: AnyRunner, stack: ExitStack | None = None) -> None:
        self._runner, self._stack = runner, stack
        self._opened: AnyRunner | None = None
        self.broken = False

    def runner(self) -> AnyRunner:
        """Return the slot's runner, open."""
        if self._stack is None:  # another slot has it as well
            return self._runner
        if self.broken or self._opened is None:
            self._opened = self._stack.enter_context(self._runner.duplicate())
            self.broken = False
        return self._opened


def _answer(future: PrefectFuture[Any]) -> dict[str, Any]:
    """Wait for a branch. Raises RarefyError, or what the runner raises, if its worker died."""
    future.wait()
    state = future.state
    answer = None if state.is_crashed() else state.result(raise_on_failure=False)
    if not isinstance(answer, dict):
        raise RarefyError(state.message or f"its worker ended in state {state.name}")
    return answer


@contextmanager
def _crew(where: Where, threads: int) -> Iterator[Crew]:
    opened = {"threads": _threads, "processes": _processes, "dask": _dask, "ray": _ray}[where.on]
    with opened(where, threads) as crew:
        yield crew


@contextmanager
def _threads(where: Where, threads: int) -> Iterator[Crew]:
    _ended.clear()
    with ThreadPoolTaskRunner(max_workers=where.workers) as runner:
        try:
            yield Crew(in_process, [Slot(runner) for _ in range(where.workers)])
        finally:
            _ended.set()  # or the runner would wait for what still runs


@contextmanager
def _processes(where: Where, threads: int) -> Iterator[Crew]:
    """Yield workers that are pools of one process: when it dies, no other worker's pool breaks."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rarefy-workers-")))
        runner: AnyRunner = ProcessPoolTaskRunner(
            max_workers=1, initializer=_start, initargs=(str(folder), os.getpid())
        )
        slots = [Slot(runner, stack) for _ in range(where.workers)]
        try:
            yield Crew(in_worker, slots)
        except BaseException:  # or the pools would wait for what still runs
            _end(folder)
            raise


def _end(folder: Path) -> None:
    """Kill the processes whose numbers are in a folder, as far as they are still this one's.

    And what they have started: it would time on while the machine seems to be free. The number of
    one that died hours ago may be a stranger's by now.
    """
    import psutil

    (folder / ENDED).touch()  # for processes that have no number there yet
    for path in folder.iterdir():
        with suppress(psutil.Error, ValueError):
            process = psutil.Process(int(path.name))
            if process.ppid() == os.getpid():
                for each in (process, *process.children(recursive=True)):
                    with suppress(psutil.Error):
                        each.kill()


def _start(folder: str, parent: int) -> None:
    """Begin the life of a process of a pool: note its number, and end when nobody waits for it.

    A process that begins when the sweep has ended already ends at once.
    """
    branch.end_with(parent)
    (Path(folder) / str(os.getpid())).touch()
    if (Path(folder) / ENDED).exists():
        os._exit(1)


@contextmanager
def _dask(where: Where, threads: int) -> Iterator[Crew]:
    from distributed import Client
    from prefect_dask import DaskTaskRunner

    if where.address is not None:
        try:
            with Client(where.address, timeout=SECONDS, set_as_default=False) as client:
                size = len(client.scheduler_info(n_workers=-1)["workers"])
        except (OSError, ValueError) as error:
            raise ProviderError(f"{where.address}: no Dask scheduler answers: {error}") from error
        if not size:
            raise ProviderError(f"{where.address}: the Dask scheduler has no workers")
        with DaskTaskRunner(address=where.address) as runner:
            yield Crew(in_worker, [Slot(runner) for _ in range(size)])
        return
    with tempfile.TemporaryDirectory(prefix="rarefy-dask-") as folder:
        cluster = {
            "n_workers": where.workers,
            "threads_per_worker": 1,
            "processes": True,
            "memory_limit": 0,  # stages say what they need; Dask would kill at its share
            "dashboard_address": None,
            "local_directory": folder,
        }
        with DaskTaskRunner(cluster_kwargs=cluster) as runner:
            yield Crew(in_worker, [Slot(runner) for _ in range(where.workers)])


@contextmanager
def _ray(where: Where, threads: int) -> Iterator[Crew]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from prefect_ray import RayTaskRunner
    from prefect_ray.context import remote_options

    logging.getLogger("ray").setLevel(logging.ERROR)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if where.address is None:
        options |= {"num_cpus": where.workers * threads, "include_dashboard": False}
    try:
        runner = RayTaskRunner(address=where.address, init_kwargs=options)
        with ExitStack() as stack:
            stack.enter_context(redirect_stdout(sys.stderr))  # Ray says there that a worker died
            stack.enter_context(runner)
            cores = int(ray.cluster_resources().get("CPU", 0))
            size = where.workers if where.address is None else cores // threads
            if size < 1:
                raise ProviderError(f"{where.address}: no Ray worker has {threads} free cores")
            slots = [Slot(runner) for _ in range(size)]
            yield Crew(in_worker, slots, lambda: remote_options(num_cpus=threads))
    except ConnectionError as error:
        raise ProviderError(f"{where.address}: no Ray cluster answers: {error}") from error
