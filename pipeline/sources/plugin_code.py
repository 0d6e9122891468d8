"""The code of stages and tasks that are not ours: its files, and the bytes that were loaded.

A stage's code is its module and every module that this imports, directly or through others,
wherever the import stands. Installed packages do not count, unless the stage is in one: a stage
names their versions in ``libraries``. A module that is imported by a computed name is not found.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import pkgutil
import sys
import sysconfig
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from rarefy.pipeline.terms.digests import file_sha256, value_sha256
from rarefy.pipeline.terms.errors import RarefyError

OWN = ("rarefy",)
"""Our packages: their stages signal a changed output by their version."""
_MARK = "rarefy_sha256"
"""The attribute of a module's spec that holds the digest of its bytes."""
_INSTALLED = ("site-packages", "dist-packages")
_STANDARD = Path(sysconfig.get_path("stdlib"))


class Source(NamedTuple):
    """A file of code, and the sha256 of the bytes that were loaded or will be."""

    path: Path
    sha256: str

    def check(self) -> None:
        """Raise RarefyError if the file has changed since its code was loaded, or is gone."""
        if not self.path.is_file() or file_sha256(self.path) != self.sha256:
            raise RarefyError(
                f"{self.path}: the file has changed since it was loaded, so no result is stored "
                "for it; run again (in a notebook, reload the module first)"
            )


class Code(NamedTuple):
    """The code of a class: the file of its module, and of the modules that this imports.

    ``source`` is None for our own classes, and for those that are in no file, as in a notebook.
    """

    source: Source | None
    helpers: dict[str, Source]

    def digests(self) -> list[str]:
        """Return the sha256 of the file, and then of each module that it imports; [] for ours.

        Raises RarefyError if one has changed since it was loaded.
        """
        sources = [helper for _, helper in sorted(self.helpers.items())]
        if self.source is not None:
            sources.insert(0, self.source)
        for source in sources:
            source.check()
        return [source.sha256 for source in sources]


_classes: WeakKeyDictionary[type, Code] = WeakKeyDictionary()
_folders: list[str] = []
"""The folders of recipes, whose modules are compiled from their source each time."""
_added: list[str] = []
"""Those of them that are in ``sys.path`` because of us."""
_names_in_folders: set[str] = set()
"""Under which import statements found modules there, so that ``focus`` need not look at all."""


# Loading


def printing_to_stderr() -> AbstractContextManager[Any]:
    """Let what code of others prints go to stderr: a command's stdout is for its answer.

    Commands run in the main thread. The stream is the whole process's, so of two threads that
    overlap, one would give back what the other had put there.
    """
    if threading.current_thread() is threading.main_thread():
        return redirect_stdout(sys.stderr)
    return nullcontext()


class Loader(SourceFileLoader):
    """Compiles a file's bytes and keeps their digest; there is no bytecode cache.

    That cache compares sizes and seconds, so it misses a quick edit.
    """

    def exec_module(self, module: ModuleType) -> None:
        """Read the file once, and run what was read."""
        source = self.get_data(self.path)
        setattr(module.__spec__, _MARK, hashlib.sha256(source).hexdigest())
        exec(self.source_to_code(source, self.path), vars(module))  # noqa: S102


class _Alone(Loader):
    """Loads a module under a name that no import statement uses."""


class _Neighbours:
    """Finds what ``PathFinder`` finds, and loads the modules in recipes' folders by ``Loader``."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a module; an environment below a recipe's folder stays as it is."""
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return spec
        file = Path(spec.loader.path)
        in_recipe = any(file.is_relative_to(folder) for folder in _folders)
        if in_recipe and not _is_installed(file):
            spec.loader = Loader(name, spec.loader.path)
            _names_in_folders.add(name)
        return spec


def load(file: Path) -> ModuleType:
    """Load a file under a name of its own; load it again if it or a file that it imports changes.

    A plain ``import`` could return another recipe's file of the same name, or an outdated version
    of this one.
    """
    content = file.read_bytes()
    helpers = _helpers(imports(content, "", ""))
    helper_digests = {name: helper.sha256 for name, helper in helpers.items()}
    version = value_sha256([str(file), hashlib.sha256(content).hexdigest(), helper_digests])
    name = f"{file.stem}_{version[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    loader = _Alone(name, str(file))
    spec = spec_from_loader(name, loader)
    if spec is None:
        raise ImportError(f"{file} cannot be loaded as a module")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def name_of(module: str) -> str:
    """Return the name by which a recipe finds a module: that of its file if it was loaded alone."""
    loader = getattr(sys.modules.get(module), "__loader__", None)
    return Path(loader.path).stem if isinstance(loader, _Alone) else module


def focus(folder: Path) -> None:
    """Make the modules in a recipe's folder importable, before those of other recipes.

    Libraries still come first, so no file in the folder hides one. If a module has changed on the
    disk, or would now come from another folder, all are loaded again when they are imported.
    """
    name = str(folder)
    if _Neighbours not in sys.meta_path:
        sys.meta_path.insert(sys.meta_path.index(PathFinder), _Neighbours)
    if name not in _folders:
        _folders.append(name)
    if name in _added or name not in sys.path:
        others = [path for path in _added if path != name]
        foreign = [path for path in sys.path if path not in _added]
        sys.path[:] = [*foreign, name, *others]
        _added[:] = [name, *others]
    importlib.invalidate_caches()
    loaded = {name: sys.modules.get(name) for name in tuple(_names_in_folders)}
    neighbours = {name: module for name, module in loaded.items() if _is_neighbour(module)}
    if any(map(_is_stale, neighbours.values())):  # another may hold on to what it imported from it
        for name in neighbours:
            del sys.modules[name]


def ready(kind: type) -> None:
    """Let the imports inside a class's functions find the modules that its code names.

    The recipe that was loaded last may have others of the same names.
    """
    source = code_of(kind).source
    if source is None:
        return
    folders = [folder for folder in _folders if source.path.is_relative_to(folder)]
    if folders:
        focus(Path(max(folders, key=len)))


def _is_installed(path: Path) -> bool:
    """Return whether a path is of a library: an environment may be below a recipe's folder."""
    return path.is_relative_to(_STANDARD) or not {*path.parts}.isdisjoint(_INSTALLED)


def _is_neighbour(module: Any) -> bool:
    """Return whether an import statement found a module in a recipe's folder."""
    return type(getattr(getattr(module, "__spec__", None), "loader", None)) is Loader


def _is_stale(module: Any) -> bool:
    """Return whether importing a neighbour now would load other bytes than it was made of."""
    spec = module.__spec__
    current = _find(spec.name)
    if current is None or current.origin != spec.origin:
        return True
    path = Path(spec.origin)
    return not path.is_file() or file_sha256(path) != getattr(spec, _MARK, None)


# What a class's code is


def note(kind: type) -> None:
    """Remember the code of a class at the time that the class is made, when it was just read.

    Raises RarefyError if a file of it has changed since it was loaded.
    """
    _classes[kind] = of_module(kind.__module__)


def of_module(name: str) -> Code:
    """Return the code of a module that was just read; no code for our own modules.

    Raises RarefyError if a file of it has changed since it was loaded.
    """
    nothing = Code(None, {})
    module = sys.modules.get(name)
    top = name.partition(".")[0]
    if module is None or top in OWN:
        return nothing
    file = _file(module)
    if file is None or file.suffix != ".py" or not file.is_file():
        return nothing
    names = imports(file.read_bytes(), module.__name__, module.__package__ or "")
    helpers = _helpers(names, top)
    helpers.pop(module.__name__, None)
    return Code(_source(module.__name__, file), helpers)


def code_of(kind: type) -> Code:
    """Return a class's code as it was when the class was made; no code for our own classes."""
    return _classes.get(kind, Code(None, {}))


def _helpers(names: Iterable[str], top: str = "") -> dict[str, Source]:
    """Return the sources of these modules and of those that they import, as far as they count.

    ``top`` is a package that counts even if it is installed.
    """
    ahead, seen = list(names), set[str]()
    sources = {}
    while ahead:
        for name in prefixes(ahead.pop()):
            if name in seen:
                continue
            seen.add(name)
            path = _path(name, top)
            if path is None:
                continue
            if path.suffix == ".py":
                package = name if path.stem == "__init__" else name.rpartition(".")[0]
                ahead += imports(path.read_bytes(), name, package)
            if path.stat().st_size:  # an empty __init__.py says nothing
                sources[name] = _source(name, path)
    return sources


def imports(source: bytes, name: str, package: str) -> Iterator[str]:
    """Yield the names that a module may import, and the packages that it is in.

    Args:
        source: the text of the module.
        name: its full name.
        package: the package that its relative imports start from.
    """
    yield name.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts: list[str] = []
            if node.level:
                parents = package.split(".")
                parts += parents[: len(parents) - node.level + 1]
            if node.module:
                parts.append(node.module)
            module = ".".join(filter(None, parts))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def prefixes(name: str) -> list[str]:
    """Return the packages that a module is in, the outermost first, and the module itself."""
    if not name:
        return []
    parts = name.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def _path(name: str, package: str) -> Path | None:
    """Return the file of a module that counts as the stage's own; None for any other."""
    top = name.partition(".")[0]
    if top in OWN or top in sys.stdlib_module_names:
        return None
    spec = getattr(sys.modules.get(name), "__spec__", None) or _find(name)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin)
    if top != package and _is_installed(path):
        return None
    return path if path.is_file() else None


def _find(name: str) -> ModuleSpec | None:
    """Find a module without importing it, or the packages that it is in."""
    top, *inner = prefixes(name)
    finders = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]
    specs = (finder.find_spec(top, None) for finder in finders)
    spec = next(filter(None, specs), None)
    for prefix in inner:
        folders = spec.submodule_search_locations if spec else None
        importers = filter(None, map(pkgutil.get_importer, folders or ()))
        candidates = filter(None, [importer.find_spec(prefix) for importer in importers])
        # Regular packages and modules come before folders without an __init__.py.
        spec = min(candidates, key=lambda candidate: candidate.loader is None, default=None)
    return spec


def _source(name: str, path: Path) -> Source:
    """Return a module's file with the digest of the bytes that were loaded, or that will be.

    If another loader than ours read them, it is that of the file when it was first seen here.
    """
    current, module = file_sha256(path), sys.modules.get(name)
    if module is None or _file(module) != path:
        return Source(path, current)
    keeper: Any = module.__spec__ or module
    if not hasattr(keeper, _MARK):
        setattr(keeper, _MARK, current)
    source = Source(path, getattr(keeper, _MARK))
    source.check()
    return source


def _file(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file) if file else None
