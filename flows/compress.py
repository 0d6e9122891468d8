"""Run a job as a Prefect flow, or with the same engine but without Prefect."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from flows import jobs, prefect_server, prefect_settings, recording
from flows.display import Display, Shows
from flows.jobs import Job
from flows.results import Result
from pipeline.recipe.recipe import LoadedRecipe
from pipeline.run.logbook import Engine
from pipeline.stage import code
from pipeline.store.home import Home
from pipeline.terms.errors import RecipeError
from pipeline.terms.vocabulary import check_threads


def run(
    job: Job,
    loaded: LoadedRecipe,
    engine: Engine,
    display: Display | None = None,
    *,
    verbose: bool = False,
) -> Result:
    """Run a job and record it; ``loaded`` is its recipe, which is not read again.

    Raises the engine's own errors, RecipeError if there is no such engine or number of threads,
    and ProviderError if PREFECT_API_URL names a server that does not answer, or the temporary one
    does not start. A missed budget is a result, not an exception.
    """
    if engine not in get_args(Engine):
        raise RecipeError(f"engine {engine!r}: expected 'prefect' or 'inline'")
    check_threads(job.threads)
    with recording.recorded(job, loaded, engine, display) as shown:
        with code.printing_to_stderr():  # of stages
            result = _run(job, loaded, engine, shown, verbose)
        shown.ended(result)
    return result


def _run(job: Job, loaded: LoadedRecipe, engine: Engine, shown: Shows, verbose: bool) -> Result:
    if engine == "inline":
        return jobs.run_inline(job, loaded, shown)
    opened = jobs.open_run(job, loaded, shown)  # what it refuses needs no server, which is slow
    shown.starting("starting Prefect")
    prefect_settings.prepare(Home(Path(job.home)).prefect, verbose)
    if prefect_server.api_url() is not None:
        prefect_server.require(
            "a run as a flow",
            f"{job.command}, or unset PREFECT_API_URL, or choose the engine 'inline'",
        )
    from flows import prefect_flow  # Prefect reads its settings when it is imported

    return prefect_flow.run(job, opened, shown)
