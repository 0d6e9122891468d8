"""Run a job as a Prefect flow, or with the same engine but without Prefect.

A run whose every step is cached goes without Prefect, unless PREFECT_API_URL names a server: there,
people look for their runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from rarefy.flows.console.display import Display, Shows
from rarefy.flows.console.results import Result
from rarefy.flows.run import job as jobs
from rarefy.flows.run import recording
from rarefy.flows.run.job import Job
from rarefy.flows.server import prefect_settings
from rarefy.flows.server import server as prefect_server
from rarefy.pipeline.recipe.recipe import LoadedRecipe
from rarefy.pipeline.run.logbook import Engine
from rarefy.pipeline.sources import plugin_code
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.terms.recipe_parts import check_threads


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
        with plugin_code.printing_to_stderr():  # of stages
            result = _run(job, loaded, engine, shown, verbose)
        shown.ended(result)
    return result


def _run(job: Job, loaded: LoadedRecipe, engine: Engine, shown: Shows, verbose: bool) -> Result:
    if engine == "inline":
        return jobs.run_inline(job, loaded, shown)
    opened = jobs.open_run(job, loaded, shown)  # what it refuses needs no server, which is slow
    has_server = prefect_server.api_url() is not None
    if not has_server and jobs.is_cached(opened):
        if verbose:
            shown.say("every step is cached, so Prefect is not started", "dim")
        return jobs.finish_inline(job, opened, shown)
    shown.starting("starting Prefect")
    prefect_settings.prepare(Home(Path(job.home)).prefect, verbose)
    if has_server:
        prefect_server.require(
            "a run as a flow",
            f"{job.command}, or unset PREFECT_API_URL, or choose the engine 'inline'",
        )
    from rarefy.flows.run import (
        flow as prefect_flow,  # Prefect reads its settings when it is imported
    )

    return prefect_flow.run(job, opened, shown)
