"""A recipe's steps over the engine: as a Prefect flow, or one after the other without Prefect."""

from __future__ import annotations

import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flows import evidence, history
from flows.display import CURRENT
from pipeline import baselines, runtime
from pipeline import outcome as outcomes
from pipeline import recipe as recipes
from pipeline.artifact import Kind
from pipeline.engine import MODEL, Finished, Run
from pipeline.errors import RarefyError
from pipeline.store import Store


@dataclass(frozen=True)
class Job:
    """What a flow run is given: plain strings, as Prefect stores parameters."""

    recipe: str
    home: str
    out: str
    device: str
    threads: int | None
    command: str
    first: bool = False
    baseline: str | None = None


@dataclass(frozen=True)
class Result:
    """The outcome of a job, and where its files are."""

    outcome: outcomes.Outcome
    paths: dict[str, str]


def open_run(job: Job) -> Run:
    """Make the job's run and plan it, so that what can be known to be wrong is said first.

    So is an eval split with too few rows for a budget: that run will end inconclusive.
    """
    loaded = recipes.load(Path(job.recipe))
    if job.baseline is not None:
        loaded = baselines.with_baseline(loaded, job.baseline)
    run = Run(loaded, Store(Path(job.home) / "store"), job.device, first=job.first)
    if job.threads:
        run.threads = job.threads
    planned = run.plan()
    if any(step.kind in (Kind.BUNDLE, Kind.REPORT) for step in planned):
        for target in loaded.recipe.targets:
            runtime.check_available(target.provider)
    if display := CURRENT.get():
        for need in evidence.needs(run, Path(job.out)):
            if not need.enough:
                display.say(f"note: {need.text}", "yellow")
    return run


def execute(run: Run, identifier: str) -> Finished:
    """Execute one step and show it on this process's display, where there is one."""
    display = CURRENT.get()
    if display is None:
        return run.execute(identifier)
    display.started(identifier)
    finished = run.execute(identifier, display.progress, display.waiting)
    display.finished(run.ledger()[-1])
    return finished


def step_ids(run: Run) -> list[str]:
    """Return the ids of all steps in order, the import of the model first."""
    return [MODEL, *(step.id for step in run.loaded.steps)]


def conclude(run: Run, job: Job) -> Result:
    """Judge, write the report and the bundle's copy, and keep the verdict in the history."""
    outcome = outcomes.conclude(run, job.command)
    result = Result(outcome, outcomes.write(outcome, Path(job.out)))
    history.keep(Path(job.home), outcome.data, Path(job.recipe))
    return result


def run_inline(job: Job) -> Result:
    """Run a job in this process, without Prefect."""
    run = open_run(job)
    for identifier in step_ids(run):
        execute(run, identifier)
    return conclude(run, job)


def prepare_prefect(home: Path, verbose: bool = False) -> None:
    """Set what Prefect reads when it is imported: no telemetry, its database in our folder.

    What the user has set stays. A run's log goes to the server; to the console only if ``verbose``:
    our own display and errors speak there.
    """
    home.mkdir(parents=True, exist_ok=True)
    level = "INFO" if verbose else "CRITICAL"
    for name, value in {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_HOME": str(home.resolve()),
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": level,
        "PREFECT_SERVER_LOGGING_LEVEL": level,
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    }.items():
        os.environ.setdefault(name, value)
    if not verbose:
        for name in ("httpx", "httpcore", "uvicorn", "aiosqlite"):
            logging.getLogger(name).setLevel(logging.ERROR)


def run_with_prefect(job: Job, prefect_home: Path, verbose: bool = False) -> Result:
    """Run a job as a Prefect flow: against the server that is set up, else its embedded one.

    Raises the engine's own errors; a missed budget is a Failed flow, and a Result here.
    """
    prepare_prefect(prefect_home, verbose)
    from flows.prefect_flow import RESULTS, compress

    state = compress(**asdict(job), return_state=True)
    result = RESULTS.pop(job.out, None)
    if result is not None:
        return result
    error: Any = state.result(raise_on_failure=False)
    if isinstance(error, BaseException):
        raise error
    raise RarefyError(f"the flow ended as {state.name}: {state.message}")
