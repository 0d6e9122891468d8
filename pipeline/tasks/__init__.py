"""Tasks, one file each: rows, the model's head, losses, answers and how they are scored."""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points

from rarefy.pipeline.sources import plugin_code
from rarefy.pipeline.tasks.task import Task
from rarefy.pipeline.terms.errors import RarefyError, RecipeError
from rarefy.pipeline.terms.suggestions import hint

__all__ = ["Task", "code_of", "find", "names"]

ENTRY_POINTS = "rarefy.tasks"


def find(name: str) -> type[Task]:
    """Return a task's class, whose code ``code.digests`` knows if it is not ours.

    Raises RecipeError with the most similar name if the task is unknown, or with the reason if it
    cannot be loaded.
    """
    points = _points(tuple(sys.path))
    if name not in points:  # it may have been installed since
        _points.cache_clear()
        points = _points(tuple(sys.path))
    if name not in points:
        raise RecipeError(f"unknown task {name!r}{hint(name, points)}")
    try:
        with plugin_code.printing_to_stderr():
            found: type[Task] = points[name].load()
        plugin_code.note(found)
    except RarefyError:
        raise
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}"
        raise RecipeError(
            f"task {name} ({points[name].value}) cannot be loaded: {reason}"
        ) from error
    return found


def code_of(name: str) -> list[str]:
    """Return what stands for a task's code in fingerprints: for one of ours its version, if not 1.

    Raises RecipeError as ``find`` does, and RarefyError if a plug-in's code has changed since.
    """
    found = find(name)
    return [
        *plugin_code.digests(found),
        *([f"version {found.version}"] if found.version > 1 else []),
    ]


def names() -> list[str]:
    """Return the names of all installed tasks, sorted."""
    return sorted(_points(tuple(sys.path)))


@lru_cache(maxsize=4)
def _points(_paths: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Return the tasks that are installed; looking takes longer than planning the rest of a step.

    ``_paths``: where Python looks for them.
    """
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}
