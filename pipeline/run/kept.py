"""The folder that runs of a stage share, whatever its parameters and the recipe's budgets are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.run.plan import Plan
from pipeline.stage import Stage, discovery
from pipeline.terms.digests import value_sha256
from pipeline.terms.versions import distribution_version, versions


@contextmanager
def folder(plan: Plan, stage: Stage, waiting: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """Yield the folder, held alone; it stays until ``gc`` deletes it as old work.

    It is another one for another task, way to read rows, or version of code and libraries. So a
    file that the stage makes of an artifact there depends on that artifact alone. A stage that is
    defined in a notebook may have changed since, and gets it empty.
    """
    value = {
        "version": stage.version,
        "source": discovery.source_digests(type(stage)),
        "rarefy": distribution_version("rarefy"),
        "libraries": versions(stage.libraries),
        "task": [plan.loaded.recipe.task, *plan.task_code],
        "labels": plan.labels,
        "reading": plan.reading,
    }
    name = f"{stage.name}-{value_sha256(value)}"
    with plan.store.lock(name, waiting):
        yield plan.store.work(name, resume=not discovery.runs_every_time(type(stage)))
