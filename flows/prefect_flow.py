"""The Prefect flow itself: one task a step, the ledger and the verdict as Prefect artifacts.

Import it after ``compress.prepare_prefect``: Prefect reads its settings when it is imported.
"""

from __future__ import annotations

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
from prefect.utilities.annotations import quote

from flows import compress as jobs
from pipeline.engine import Run
from pipeline.report import markdown

RESULTS: dict[str, jobs.Result] = {}
"""The results of flows that ran in this process, by their output folder, for the command line."""


@task(task_run_name="{identifier}", cache_policy=NO_CACHE, persist_result=False)
def stage(identifier: str, run: Run) -> State[dict[str, Any]]:
    """Execute one step. Only the digest passes on; a step found done ends in the state Cached."""
    finished = jobs.execute(run, identifier)
    answer = {"digest": finished.artifact.digest, "cached": finished.cached}
    return Completed(name="Cached" if finished.cached else "Completed", data=answer)


@flow(name="rarefy-compress", persist_result=False, validate_parameters=False)
def compress(
    recipe: str,
    home: str = ".rarefy",
    out: str = ".rarefy/runs/scheduled",
    device: str = "cpu",
    threads: int | None = None,
    command: str = "rarefy run",
    first: bool = False,
    baseline: str | None = None,
) -> State[Any]:
    """Run a recipe from model to verdict. A missed budget ends the flow in the state Failed."""
    job = jobs.Job(recipe, home, out, device, threads, command, first, baseline)
    run = jobs.open_run(job)
    states: dict[str, State[Any]] = {}
    for identifier in jobs.step_ids(run):
        # Quoted, Prefect does not walk through all that the run holds; so the order is told to it.
        before = [states[name] for _, name in run.parents(identifier)]
        states[identifier] = stage(identifier, quote(run), wait_for=before, return_state=True)
        states[identifier].result()  # raises what the step raised
        create_table_artifact(
            key="rarefy-ledger",
            table=[row.model_dump() for row in run.ledger()],
            description=f"The ledger of {run.loaded.recipe.name}",
        )
    result = jobs.conclude(run, job)
    RESULTS[job.out] = result
    create_markdown_artifact(key="rarefy-verdict", markdown=markdown.render(result.outcome.data))
    create_link_artifact(
        key="rarefy-report",
        link=Path(result.paths["report"]).resolve().as_uri(),
        link_text="report.html",
    )
    judged = result.outcome.data.verdict
    summary = {"outcome": judged.outcome if judged else None, **result.paths}
    if judged is not None and judged.outcome == "fail":
        missed = [b.reason for b in judged.budgets if b.outcome == "fail" and b.level == "error"]
        return Failed(message="; ".join(missed), data=summary)
    if judged is not None and judged.evidence:
        return Failed(message="; ".join(judged.evidence), data=summary)
    return Completed(data=summary)
