"""Discovery of stages: by registered name, or as ``module:Class`` next to the recipe."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable
from functools import cache
from importlib.machinery import SourceFileLoader
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from pipeline.stage import notebook
from pipeline.stage.contract import Stage
from pipeline.terms.digests import file_sha256
from pipeline.terms.errors import RecipeError
from pipeline.terms.naming import hint

ENTRY_POINTS = "rarefy.stages"
OWN = ("stages", "pipeline")
"""The packages whose stages signal a changed output by their version."""


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
    """Return the sha256 of each source of a third-party stage; our own stages have versions.

    A source is a module's file, or the text of a class that was defined in a notebook. Raises
    RecipeError if that text is unavailable, because its results could not be told from those of an
    older version.
    """
    foreign = [base for base in kind.__mro__ if issubclass(base, Stage) and not _is_ours(base)]
    files = {str(file): base for base in foreign if (file := _file(base))}
    texts = [_text(base) for base in foreign if not _file(base)]
    return [file_sha256(Path(file)) for file in sorted(files)] + texts


def _is_ours(kind: type[Stage]) -> bool:
    return kind.__module__.partition(".")[0] in OWN


def _file(kind: type[Stage]) -> str | None:
    return getattr(sys.modules.get(kind.__module__), "__file__", None)


def _text(kind: type[Stage]) -> str:
    text = notebook.source(kind)
    if text is None:
        raise RecipeError(
            f"stage {kind.__qualname__}: the source cannot be read; define the stage in a file"
        )
    return hashlib.sha256(text.encode()).hexdigest()


def _module(name: str, folder: Path | None) -> ModuleType:
    file = folder / f"{name}.py" if folder and "." not in name else None
    if folder and str(folder) not in sys.path:
        sys.path.append(str(folder))
    if file is None or not file.is_file():
        return importlib.import_module(name)
    return _load_file(file, hashlib.sha256(file.read_bytes()).hexdigest())


@cache
def _load_file(file: Path, sha256: str) -> ModuleType:
    """Load a file next to a recipe under a unique module name, and reload it if its bytes change.

    A plain ``import`` could return another recipe's file of the same name, or an outdated version
    of this one.
    """
    name = f"{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}_{sha256[:8]}"
    spec = spec_from_loader(name, _SourceLoader(name, str(file)))
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be loaded as a module")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _SourceLoader(SourceFileLoader):
    """Loader that always compiles from source: the bytecode cache compares sizes and seconds."""

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code
