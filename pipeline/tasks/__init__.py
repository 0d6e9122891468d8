"""Tasks: what a model learns to predict, in six parts; and where installed tasks are found."""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points

from rarefy.pipeline.sources import plugin_code
from rarefy.pipeline.tasks.task import PARTS, Task
from rarefy.pipeline.terms.errors import RarefyError, RecipeError
from rarefy.pipeline.terms.wording import hint

__all__ = ["PARTS", "Task", "code_of", "find", "names"]

ENTRY_POINTS = "rarefy.tasks"

_codes: dict[str, plugin_code.Code] = {}
"""The code of each task that was loaded, by its name."""


def find(name: str) -> Task:
    """Return an installed task, whose code ``code_of`` knows from then on.

    Raises RecipeError with the most similar name if the task is unknown, or with the reason if it
    cannot be loaded.
    """
    points = _points(tuple(sys.path))
    if name not in points:  # it may have been installed since
        _points.cache_clear()
        points = _points(tuple(sys.path))
    if name not in points:
        raise RecipeError(f"unknown task {name!r}{hint(name, points)}")
    point = points[name]
    try:
        with plugin_code.printing_to_stderr():
            task = point.load()
        if not isinstance(task, Task):
            raise TypeError(f"{type(task).__name__} is not a Task")
        if task.name != name:
            raise ValueError(f"its name is {task.name!r}")
        _codes[name] = plugin_code.of_module(point.module)
    except RarefyError:
        raise
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}"
        raise RecipeError(f"task {name} ({point.value}) cannot be loaded: {reason}") from error
    return task


def code_of(task: Task) -> list[str]:
    """Return what stands for a task's code in fingerprints: for one of ours its version, if not 1.

    Raises RarefyError if a plug-in's code has changed since it was loaded.
    """
    digests = _codes[task.name].digests() if task.name in _codes else []
    if task.version > 1:
        digests.append(f"version {task.version}")
    return digests


def names() -> list[str]:
    """Return the names of all installed tasks, sorted."""
    return sorted(_points(tuple(sys.path)))


@lru_cache(maxsize=4)
def _points(_paths: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Return the tasks that are installed; looking takes longer than planning the rest of a step.

    ``_paths``: where Python looks for them.
    """
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}
