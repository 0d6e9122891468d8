"""The Prefect flow: one task per step, with the ledger and the verdict as Prefect artifacts.

Import this after ``prefect_settings.prepare``: Prefect reads its settings when it is imported.
"""

from __future__ import annotations

import inspect
import logging
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from prefect import flow, runtime, tags, task
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed, State

from rarefy.flows.console.display import Display, Shows
from rarefy.flows.console.options import RunOptions
from rarefy.flows.console.results import Result
from rarefy.flows.run import job as jobs
from rarefy.flows.run import recording
from rarefy.flows.run.job import Job
from rarefy.flows.server import guard, limits, logs, retry
from rarefy.flows.server.logs import LogStream
from rarefy.flows.sharing import publishing, recipe_source
from rarefy.pipeline.measure import exclusive
from rarefy.pipeline.measure.machine import default_device
from rarefy.pipeline.recipe.recipe import LoadedRecipe
from rarefy.pipeline.report import markdown
from rarefy.pipeline.run.engine import Finished, Run
from rarefy.pipeline.store.home import DEFAULT, VARIABLE, Home
from rarefy.pipeline.store.remote.artifacts import Remote
from rarefy.pipeline.terms.digests import value_sha256
from rarefy.pipeline.terms.errors import ProviderError, RarefyError

NAME = "rarefy-compress"
EXIT_CODE = re.compile(r"\(exit code (\d+)\)$")
"""The end of the message of a final state, from which `rarefy submit --watch` knows its code."""

Made = TypeVar("Made")
Flow = TypeVar("Flow", bound=Callable[..., Any])
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Parameters(RunOptions):
    """The parameters of the flow, which a deployment stores."""

    recipe: str
    """A path on this machine, or the address from which Prefect has fetched the recipe."""
    home: str | None = None
    out: str | None = None
    command: str | None = None
    report_url: str | None = None
    """Where people read the ``runs/`` folder of the store."""
    machine: str | None = None
    """The machine that measures; None: this one."""

    def job(self, home: Home) -> Job:
        """Return what the flow does in this home folder."""
        options = {option.name: getattr(self, option.name) for option in fields(RunOptions)}
        if self.device == "auto":
            options["device"] = default_device()
        command = self.command or f"rarefy run {self.recipe}"
        return Job(
            recipe=self.recipe,
            home=str(home.path),
            out=self.out or "",
            command=command,
            **options,
        )


def _taking(parameters: type) -> Callable[[Flow], Flow]:
    """Return a decorator that lets Prefect see a class's fields as a function's parameters."""

    def decorate(function: Flow) -> Flow:
        signature = inspect.signature(parameters, eval_str=True)
        function.__signature__ = signature  # type: ignore[attr-defined]
        return function

    return decorate


@flow(name=NAME, persist_result=False, validate_parameters=False)
@_taking(Parameters)
def compress(**values: Any) -> State[Any]:
    """Run a recipe from model to verdict.

    The flow's state is Failed if a budget is missed, and if one is inconclusive and it is
    ``strict``.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as rarefy.flows.cli does
    logs.hide_credentials()
    parameters = Parameters(**values)
    place = Home.of(parameters.home or os.environ.get(VARIABLE) or Path.home() / DEFAULT)
    job = parameters.job(place)
    with Display(LogStream(get_run_logger()).console()) as display:
        try:
            return _deployed(job, place, display, parameters.report_url, parameters.machine)
        except RarefyError as error:
            get_run_logger().error(str(error))
            return Failed(message=_coded(str(error), error.exit_code))


def _deployed(
    job: Job, place: Home, display: Display, report_url: str | None, machine: str | None
) -> State[Any]:
    """Run the recipe, which Prefect has fetched, and publish what the run made."""
    source = job.recipe
    job = replace(job, recipe=str(recipe_source.local_path(source, Path.cwd())))
    loaded = jobs.load(job)
    name, url = loaded.recipe.name, job.store
    if not job.out:
        runs = jobs.folder_name(runtime.deployment.name, name)
        job = replace(job, out=str(place.runs / runs))
    with recording.recorded(replace(job, recipe=source), loaded, "prefect", display) as shown:
        run = retried("plan", lambda: _planned(job, loaded, shown))
        with exclusive.also(limits.limit_of(machine)):
            result = run_steps(run, job, shown)
        shown.ended(result)
    _show(result, name)  # before what may fail
    link, unpublished = _on_disk(result), None
    if url is not None:
        report = publishing.place_of(name, str(runtime.flow_run.id))
        try:
            retried("publish", lambda: publishing.publish(run, result, url, report))
            link = publishing.address(url, report, report_url)
        except RarefyError as error:
            unpublished = error
    _link(name, link)
    return _state(result, job.strict, unpublished)


def _planned(job: Job, loaded: LoadedRecipe, shown: Shows) -> Run:
    """Open the run, if the store to which it will be published can be written."""
    if job.store is not None:
        Remote.open(job.store).check_writable()
    return jobs.open_run(job, loaded, shown)


def run(job: Job, opened: Run, display: Shows | None = None) -> Result:
    """Run a job as a flow in this process, on the configured server or a temporary one.

    While a temporary server starts, the first steps are executed; the flow takes their results.

    ``opened``: its run, which is planned already.

    Raises the engine's own errors. If a budget is missed, the flow fails, but a Result is returned.
    """
    results: list[Result] = []
    errors: list[Exception] = []  # kept here: in a notebook `state.result` is a coroutine
    name = opened.plan.loaded.recipe.name
    # Before there is a temporary server, whose limit would keep nobody else away.
    limit = limits.limit_of(None)
    early: dict[str, Future[Finished]] = {}
    if limit is None:
        guard.launch()
        early = _early_steps(opened, display)

    # Define a flow for each call: its closure holds what cannot be a plain flow parameter.
    @flow(name=NAME, persist_result=False, validate_parameters=False)
    def compress(**parameters: Any) -> State[Any]:
        try:
            with exclusive.also(limit):
                results.append(run_steps(opened, job, display, early))
            _show(results[-1], name)
            _link(name, _on_disk(results[-1]))
        except Exception as error:
            errors.append(error)
            raise
        return _state(results[-1], job.strict)

    try:
        with guard.running(), tags(*tags_of(name)):
            state = compress(**job.parameters, return_state=True)
    except ProviderError:
        _raise_early(early)
        raise
    if results:
        return results[-1]
    if errors:
        raise errors[-1]
    raise RarefyError(f"the flow ended in state {state.name}: {state.message}")


def _raise_early(early: Mapping[str, Future[Finished]]) -> None:
    """Raise the error of a step that failed while the server started, if one did."""
    for future in early.values():
        error = future.exception()
        if error is not None:
            raise error from None


def _early_steps(run: Run, display: Shows | None) -> dict[str, Future[Finished]]:
    """Execute steps until the temporary server answers, and return what became of each.

    An error is kept for the flow, which fails with it or tries the step again. A stage that times
    models waits for the server.
    """
    early: dict[str, Future[Finished]] = {}
    for identifier in run.plan.loaded.ids:
        if not guard.is_starting():
            return early
        if run.plan.stage_of(identifier).policy.timed:
            break  # the server's start would take its cores
        early[identifier] = Future()
        try:
            early[identifier].set_result(jobs.execute(run, identifier, display))
        except Exception as error:
            early[identifier].set_exception(error)
            break
    if display is not None:
        display.starting("waiting for Prefect")
    return early


def tags_of(recipe: str) -> list[str]:
    """Return the tags of a recipe's flow runs."""
    return ["rarefy", f"recipe:{recipe}"]


def key(kind: str, recipe: str) -> str:
    """Return the key of a recipe's Prefect artifacts, which share a history by their key.

    Keys have no dots and no underscores; a digest tells recipes apart that differ in these alone.

    Args:
        kind: What the artifact shows, such as "ledger".
        recipe: The recipe's name.
    """
    name = re.sub(r"[^a-z0-9]+", "-", recipe)
    if name != recipe:
        digest = value_sha256(recipe)
        name = f"{name}-{digest[:8]}"
    return f"rarefy-{kind}-{name}"


def run_steps(
    run: Run,
    job: Job,
    display: Shows | None,
    early: Mapping[str, Future[Finished]] = MappingProxyType({}),
) -> Result:
    """Execute every step as a task of the running flow, then judge.

    ``early``: steps that were executed before the flow, by id.
    """
    stage = _stage_task(run, display, dict(early))
    states: dict[str, State[Any]] = {}
    name = run.plan.loaded.recipe.name
    ledger_key = key("ledger", name)
    for identifier in run.plan.loaded.ids:
        before = [states[parent] for _, parent in run.plan.parents(identifier)]
        state = stage(identifier, wait_for=before, return_state=True)
        state.result()  # re-raises the step's error
        states[identifier] = state
        rows = [row.model_dump() for row in run.ledger()]
        about = f"Stages of {name}"
        show_page(create_table_artifact, key=ledger_key, table=rows, description=about)
    return jobs.conclude(run, job)


def _show(result: Result, recipe: str) -> None:
    """Show the verdict in Prefect's pages."""
    text = markdown.render(result.outcome.data)
    show_page(create_markdown_artifact, key=key("verdict", recipe), markdown=text)


def _on_disk(result: Result) -> str:
    """Return the address of a run's report on this machine."""
    return Path(result.paths["report"]).resolve().as_uri()


def _link(recipe: str, report: str) -> None:
    """Link the report in Prefect's pages."""
    show_page(create_link_artifact, key=key("report", recipe), link=report, link_text="report.html")


def show_page(create: Callable[..., Any], **page: Any) -> None:
    """Create a page of Prefect's; a server that is away for the moment ends no run."""
    try:
        create(**page)
    except Exception as error:
        if not retry.may_pass(error):
            raise
        _log.warning("%s is not shown: %s", page["key"], error)


def _again(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    """Return whether a task that failed should be tried again."""
    return isinstance(state.data, BaseException) and retry.may_pass(state.data)


RETRIES: dict[str, Any] = {
    "retries": len(retry.DELAYS),
    "retry_delay_seconds": list(retry.DELAYS),
    "retry_jitter_factor": 0.3,  # of fifty runs that met the same fault
    "retry_condition_fn": _again,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}


def retried(name: str, work: Callable[[], Made]) -> Made:
    """Do work that no step does as a task of its own; its result stays in this process."""
    made: list[Made] = []

    @task(task_run_name=name, **RETRIES)
    def step() -> None:
        made.append(work())

    step()
    return made[-1]


def _stage_task(
    run: Run, display: Shows | None, early: dict[str, Future[Finished]]
) -> Callable[..., State[Any]]:
    """Return the task that executes one step. It passes on only the artifact's digest.

    A step in ``early`` has been executed: the first attempt ends as that did.
    """

    @task(task_run_name="{identifier}", **RETRIES)
    def stage(identifier: str) -> State[dict[str, Any]]:
        if identifier in early:
            finished = early.pop(identifier).result()
        else:
            finished = jobs.execute(run, identifier, display)
        answer = {"digest": finished.artifact.digest, "cached": finished.cached}
        return Completed(name="Cached" if finished.cached else "Completed", data=answer)

    return stage


def _coded(message: str, code: int) -> str:
    return f"{message} (exit code {code})"


def _state(result: Result, strict: bool, unpublished: RarefyError | None = None) -> State[Any]:
    """Return the final state of the flow; ``unpublished``: why the store did not take its files."""
    judged, code = result.outcome.data.verdict, result.exit_code(strict)
    outcome = judged.outcome if judged else None
    summary, reasons = {"outcome": outcome, **result.paths}, list[str]()
    if judged is not None and judged.exit_code(strict):
        reasons += judged.missed or judged.evidence or judged.undecided
    if result.unrecorded is not None:
        reasons.append(f"not in the history: {result.unrecorded}")
    if unpublished is not None:
        reasons.append(f"verdict: {outcome or 'none'}; not published: {unpublished}")
        code = code or ProviderError.exit_code
    if reasons:
        return Failed(message=_coded("; ".join(reasons), code), data=summary)
    return Completed(data=summary)
