"""The Prefect flow: one task per step, with the ledger and the verdict as Prefect artifacts.

Import this after ``prefect_settings.prepare``: Prefect reads its settings when it is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed, State

from flows import jobs, recording
from flows.display import Shows
from flows.jobs import Job
from flows.results import Result
from pipeline.recipe.recipe import LoadedRecipe
from pipeline.report import markdown
from pipeline.run.engine import Run
from pipeline.terms.errors import RarefyError

NAME = "rarefy-compress"


@flow(name=NAME, persist_result=False, validate_parameters=False)
def compress(
    recipe: str,
    home: str = ".rarefy",
    out: str = ".rarefy/runs/scheduled",
    device: str = "cpu",
    threads: int | None = None,
    command: str = "rarefy run",
    first: bool = False,
    baseline: str | None = None,
    fresh: bool = False,
) -> State[Any]:
    """Run a recipe from model to verdict. The flow's state is Failed if a budget is missed."""
    job = Job(recipe, home, out, device, threads, command, first, baseline, fresh)
    loaded = jobs.load(job)
    with recording.recorded(job, loaded, "prefect", None) as shown:
        result = _carry_out(job, loaded, shown)
        shown.ended(result)
    return _state(result)


def run(job: Job, loaded: LoadedRecipe, display: Shows | None = None) -> Result:
    """Run a job as a flow in this process, on the configured server or an embedded one.

    Raises the engine's own errors. If a budget is missed, the flow fails, but a Result is returned.
    """
    results: list[Result] = []
    errors: list[Exception] = []  # kept here: in a notebook `state.result` is a coroutine

    # Define a flow for each call: its closure holds what cannot be a plain flow parameter.
    @flow(name=NAME, persist_result=False, validate_parameters=False)
    def compress(**parameters: Any) -> State[Any]:
        try:
            results.append(_carry_out(job, loaded, display))
        except Exception as error:
            errors.append(error)
            raise
        return _state(results[-1])

    state = compress(**asdict(job), return_state=True)
    if results:
        return results[-1]
    if errors:
        raise errors[-1]
    raise RarefyError(f"the flow ended in state {state.name}: {state.message}")


def _carry_out(job: Job, loaded: LoadedRecipe, display: Shows | None) -> Result:
    """Execute every step as a task of the running flow, then judge and report."""
    run = jobs.open_run(job, loaded, display)
    stage = _stage_task(run, display)
    states: dict[str, State[Any]] = {}
    for identifier in jobs.step_ids(loaded):
        before = [states[name] for _, name in run.plan.parents(identifier)]
        states[identifier] = stage(identifier, wait_for=before, return_state=True)
        states[identifier].result()  # re-raises the step's error
        create_table_artifact(
            key="rarefy-ledger",
            table=[row.model_dump() for row in run.ledger()],
            description=f"The ledger of {loaded.recipe.name}",
        )
    result = jobs.conclude(run, job)
    create_markdown_artifact(key="rarefy-verdict", markdown=markdown.render(result.outcome.data))
    create_link_artifact(
        key="rarefy-report",
        link=Path(result.paths["report"]).resolve().as_uri(),
        link_text="report.html",
    )
    return result


def _stage_task(run: Run, display: Shows | None) -> Callable[..., State[Any]]:
    """Return the task that executes one step. It passes on only the artifact's digest."""

    @task(task_run_name="{identifier}", cache_policy=NO_CACHE, persist_result=False)
    def stage(identifier: str) -> State[dict[str, Any]]:
        finished = jobs.execute(run, identifier, display)
        answer = {"digest": finished.artifact.digest, "cached": finished.cached}
        return Completed(name="Cached" if finished.cached else "Completed", data=answer)

    return stage


def _state(result: Result) -> State[Any]:
    """Return the final state of the flow."""
    judged = result.outcome.data.verdict
    summary = {"outcome": judged.outcome if judged else None, **result.paths}
    if judged is not None and judged.outcome == "fail":
        return Failed(message="; ".join(judged.missed), data=summary)
    if judged is not None and judged.evidence:
        return Failed(message="; ".join(judged.evidence), data=summary)
    if result.unrecorded is not None:
        return Failed(message=f"not in the history: {result.unrecorded}", data=summary)
    return Completed(data=summary)
