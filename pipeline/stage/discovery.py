"""Discovery of stages: by registered name, or as ``module:Class`` next to the recipe."""

from __future__ import annotations

import importlib
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from rarefy.pipeline.sources import plugin_code
from rarefy.pipeline.stage.contract import Stage
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.terms.wording import hint

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
    point = installed().get(name)
    if point is None and ":" not in name:
        raise RecipeError(f"unknown stage {name!r}{hint(name, installed())}")
    origin = name if point is None else f"{name} ({point.value})"
    try:
        with plugin_code.printing_to_stderr():
            loaded = imported(name, folder) if point is None else point.load()
    except (Exception, SystemExit) as error:  # as of a script that parses its arguments
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise RecipeError(f"stage {origin} cannot be loaded: {reason}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, Stage)):
        raise RecipeError(f"stage {origin} is not a subclass of rarefy.pipeline.stage.Stage")
    if not isinstance(getattr(loaded, "name", None), str):
        raise RecipeError(f"stage {origin} has no name: set `name: ClassVar[str]` in the class")
    return loaded


def runs_every_time(kind: type[Stage]) -> bool:
    """Return whether a stage is in no file, as in a notebook, so no result of it is cached."""
    return any(plugin_code.code_of(base).source is None for base in _foreign(kind))


def source_digests(kind: type[Stage]) -> list[str]:
    """Return the sha256 of each source of a third-party stage; our own stages have versions.

    A source is the file of the class's module, or a module that it imports, with its name. A class
    in no file has a constant instead. Raises RarefyError if a file has changed since it was loaded.
    """
    if runs_every_time(kind):
        return [NO_FILE]
    files: dict[Path, str] = {}
    helpers: dict[str, plugin_code.Source] = {}
    for base in _foreign(kind):
        source = plugin_code.code_of(base).source
        if source is not None:
            source.check()
            files[source.path] = source.sha256
        helpers |= plugin_code.code_of(base).helpers
    digests = [files[path] for path in sorted(files)]
    for name, helper in sorted(helpers.items()):
        helper.check()
        if helper.path not in files:
            digests.append(f"{name} {helper.sha256}")
    return digests


def ready(kind: type[Stage]) -> None:
    """Let a third-party stage import its neighbours while it runs, and not another recipe's."""
    for base in reversed(_foreign(kind)):
        plugin_code.ready(base)


def _foreign(kind: type[Stage]) -> list[type[Stage]]:
    """Return a stage's class and its bases, without ours."""
    bases = []
    for base in kind.__mro__:
        is_ours = base.__module__.partition(".")[0] in plugin_code.OWN
        if issubclass(base, Stage) and not is_ours:
            bases.append(base)
    return bases


def imported(name: str, folder: Path | None) -> Any:
    """Return what ``module:name`` names, of an installed module or of a file in ``folder``."""
    module_name, _, attribute = name.partition(":")
    return getattr(_module(module_name, folder), attribute)


def _module(name: str, folder: Path | None) -> ModuleType:
    """Return a module in a recipe's folder, or else an installed one."""
    if folder is None:
        return importlib.import_module(name)
    plugin_code.focus(folder)
    file = folder / f"{name}.py"
    return plugin_code.load(file) if file.is_file() else importlib.import_module(name)
