"""Discovery of stages: by registered name, or as ``module:Class`` next to the recipe."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.stage import code
from pipeline.stage.contract import Stage
from pipeline.terms.errors import RecipeError
from pipeline.terms.naming import hint

ENTRY_POINTS = "rarefy.stages"
NO_FILE = "defined in a notebook"
"""What stands for the code of a stage that is in no file."""


@cache
def installed() -> dict[str, EntryPoint]:
    """Return the entry points of all installed stages by name, without importing them."""
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def find(name: str, folder: Path | None = None) -> type[Stage]:
    """Return the stage class for a registered name or ``module:Class``.

    ``module`` is an installed module or a file in ``folder``, the recipe's folder. Raises
    RecipeError with the most similar name if the name is unknown, or with the reason if a plug-in
    cannot be loaded.
    """
    if name in installed():
        point = installed()[name]
        load: Callable[[], Any] = point.load
        origin = f"{name} ({point.value})"
    elif ":" in name:
        module, _, attribute = name.partition(":")
        load = lambda: getattr(_module(module, folder), attribute)  # noqa: E731
        origin = name
    else:
        raise RecipeError(f"unknown stage {name!r}{hint(name, installed())}")
    try:
        with code.printing_to_stderr():
            loaded = load()
    except (Exception, SystemExit) as error:  # as of a script that parses its arguments
        reason = next(iter(f"{type(error).__name__}: {error}".splitlines()))
        raise RecipeError(f"stage {origin} cannot be loaded: {reason}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, Stage)):
        raise RecipeError(f"stage {origin} is not a subclass of pipeline.stage.Stage")
    if not isinstance(getattr(loaded, "name", None), str):
        raise RecipeError(f"stage {origin} has no name: set `name: ClassVar[str]` in the class")
    return loaded


def runs_every_time(kind: type[Stage]) -> bool:
    """Return whether a stage is in no file, as in a notebook, so no result of it is cached."""
    return any(code.of(base).source is None for base in _foreign(kind))


def source_digests(kind: type[Stage]) -> list[str]:
    """Return the sha256 of each source of a third-party stage; our own stages have versions.

    A source is the file of the class's module, or a module that it imports, with its name. A class
    in no file has a constant instead. Raises RarefyError if a file has changed since it was loaded.
    """
    if runs_every_time(kind):
        return [NO_FILE]
    files: dict[Path, str] = {}
    helpers: dict[str, code.Source] = {}
    for base in _foreign(kind):
        source = code.of(base).source
        if source is not None:
            source.check()
            files[source.path] = source.sha256
        helpers |= code.of(base).helpers
    digests = [files[path] for path in sorted(files)]
    for name, helper in sorted(helpers.items()):
        helper.check()
        if helper.path not in files:
            digests.append(f"{name} {helper.sha256}")
    return digests


def ready(kind: type[Stage]) -> None:
    """Let a third-party stage import its neighbours while it runs, and not another recipe's."""
    for base in reversed(_foreign(kind)):
        code.ready(base)


def _foreign(kind: type[Stage]) -> list[type[Stage]]:
    """Return a stage's class and its bases, without ours."""
    stages = [base for base in kind.__mro__ if issubclass(base, Stage)]
    return [base for base in stages if base.__module__.partition(".")[0] not in code.OWN]


def _module(name: str, folder: Path | None) -> ModuleType:
    if folder is None:
        return importlib.import_module(name)
    code.focus(folder)
    file = folder / f"{name}.py"
    return code.load(file) if file.is_file() else importlib.import_module(name)
