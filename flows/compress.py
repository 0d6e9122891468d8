"""Run a job as a Prefect flow, or with the same engine but without Prefect."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from flows import jobs, prefect_server, prefect_settings, server_guard
from flows.display import Display
from flows.jobs import Job
from flows.results import Result
from pipeline.recipe.recipe import LoadedRecipe
from pipeline.store.home import Home

Engine = Literal["prefect", "inline"]


def run(
    job: Job,
    loaded: LoadedRecipe,
    engine: Engine,
    display: Display | None = None,
    *,
    verbose: bool = False,
) -> Result:
    """Run a job; ``loaded`` is its recipe, which is not read again.

    Raises the engine's own errors. A missed budget is a result, not an exception.
    """
    if engine == "inline":
        return jobs.run_inline(job, loaded, display)
    if display is not None:
        display.starting("starting Prefect")
    prefect_settings.prepare(Home(Path(job.home)).prefect, verbose)
    if prefect_server.api_url() is None:
        server_guard.start()  # Prefect will embed a server
    from flows import prefect_flow  # Prefect reads its settings when it is imported

    return prefect_flow.run(job, loaded, display)
