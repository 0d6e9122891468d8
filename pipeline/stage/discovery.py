"""How stages are found: by a registered name, or as ``module:Class`` beside the recipe."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable
from functools import cache
from importlib.machinery import SourceFileLoader
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from pipeline.stage.contract import Stage
from pipeline.terms.digests import file_sha256
from pipeline.terms.errors import RecipeError
from pipeline.terms.naming import hint

ENTRY_POINTS = "rarefy.stages"
OWN = ("stages", "pipeline")
"""The packages whose stages say by their version that their output changed."""


@cache
def installed() -> dict[str, EntryPoint]:
    """Return the entry points of all installed stages by name, without importing them."""
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def find(name: str, folder: Path | None = None) -> type[Stage]:
    """Return the stage class of a registered name or of ``module:Class``.

    ``folder`` is the recipe's: ``module`` may be a file beside it, or be installed. Raises
    RecipeError with the nearest known name, or with what is broken in a plug-in.
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
        loaded = load()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise RecipeError(f"stage {origin} cannot be loaded: {reason}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, Stage)):
        raise RecipeError(f"stage {origin} is not a subclass of pipeline.stage.Stage")
    if not isinstance(getattr(loaded, "name", None), str):
        raise RecipeError(f"stage {origin} has no name: set `name: ClassVar[str]` in the class")
    return loaded


def source_digests(kind: type[Stage]) -> list[str]:
    """Return the sha256 of each source of a third party's stage; our own have versions instead.

    A source is the file of a module, or the text of a class that was defined in a notebook.
    Raises RecipeError if that text is not known: its results could not be told from older ones.
    """
    theirs = [base for base in kind.__mro__ if issubclass(base, Stage) and not _is_ours(base)]
    files = {str(file): base for base in theirs if (file := _file(base))}
    texts = [_text(base) for base in theirs if not _file(base)]
    return [file_sha256(Path(file)) for file in sorted(files)] + texts


def _is_ours(kind: type[Stage]) -> bool:
    return kind.__module__.partition(".")[0] in OWN


def _file(kind: type[Stage]) -> str | None:
    return getattr(sys.modules.get(kind.__module__), "__file__", None)


def _text(kind: type[Stage]) -> str:
    try:
        return hashlib.sha256(inspect.getsource(kind).encode()).hexdigest()
    except (OSError, TypeError):
        raise RecipeError(
            f"stage {kind.__qualname__}: its source cannot be read; define it in a file"
        ) from None


def _module(name: str, folder: Path | None) -> ModuleType:
    file = folder / f"{name}.py" if folder and "." not in name else None
    if folder and str(folder) not in sys.path:
        sys.path.append(str(folder))
    if file is None or not file.is_file():
        return importlib.import_module(name)
    return _load_file(file, hashlib.sha256(file.read_bytes()).hexdigest())


@cache
def _load_file(file: Path, sha256: str) -> ModuleType:
    """Load a file beside a recipe under a name of its own, anew when its bytes change.

    Not by ``import``: that would take another recipe's file of the same name, or what the file
    said before it was edited.
    """
    name = f"{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}_{sha256[:8]}"
    spec = spec_from_loader(name, _SourceLoader(name, str(file)))
    if spec is None or spec.loader is None:
        raise ImportError(f"no module can be made of {file}")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _SourceLoader(SourceFileLoader):
    """Compiles from source: the bytecode cache goes by size and whole seconds."""

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code
