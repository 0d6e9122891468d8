"""The address of a recipe that a worker runs, in a shared store or in a git repository.

``send`` puts a recipe and the files that it names into a store, and returns its address there, such
as ``s3://bucket/recipes/demo-0123/demo.yaml``. ``git+REPOSITORY@REVISION:PATH`` is the address of
one in a git repository. Prefect fetches both. Any other address is a path on this machine.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import fsspec

from rarefy.pipeline.recipe import yaml_file
from rarefy.pipeline.recipe.recipe import BESIDE
from rarefy.pipeline.sources import hub, plugin_code, urls
from rarefy.pipeline.stage import discovery
from rarefy.pipeline.store.remote.artifacts import Remote
from rarefy.pipeline.terms import credentials
from rarefy.pipeline.terms.digests import file_sha256, value_sha256
from rarefy.pipeline.terms.errors import ProviderError, RecipeError

if TYPE_CHECKING:
    from prefect.runner.storage import GitRepository, RemoteStorage

GIT: Final = "git+"
RECIPES: Final = "recipes"
"""The folder of a store that holds what ``send`` sent."""
MOUNTED: Final = ("file://", "local://")
"""How the address of a folder begins that workers have mounted: nothing is fetched from there."""
CLONE: Final = "repository"
"""The folder into which Prefect clones a repository."""
STAY: Final = {"prefect.deployments.steps.set_working_directory": {"directory": "."}}
"""The pull step after which a run starts in a folder that holds no code but what was fetched.

Python imports from the folder of a run first, and a repository may have a folder named like ours.
"""
_GIT = re.compile(r"(?P<repository>.+)@(?P<revision>[^@:]+):(?P<path>[^:]+)")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://.+|[^/:@]+@[^/:]+:.+", re.IGNORECASE)
"""A URL, or ssh's short form ``user@host:path``."""
_SSH_USER = re.compile(r"^((?:git\+)?ssh://)[\w.-]+@")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_LONGEST = 300
"""Characters of the longest path that is looked for; longer texts are prompts."""
_IDS = frozenset(
    {"teacher", "teachers", "transfer", "answers", "table", "target", "samples", "models"}
)
"""Parameters of our stages that name steps, targets or splits, and no files."""
_HOST = re.compile(r"[a-z][a-z0-9+.-]*://[^/]*", re.IGNORECASE)
"""A URL that ends with its host."""
_ELSEWHERE = (hub.PREFIX, "package:", "/", "~", *urls.PREFIXES)
"""How a reference begins that names nothing beside the recipe."""


@dataclass(frozen=True)
class InGit:
    """A file in a git repository, at a branch, tag or commit."""

    repository: str
    revision: str
    path: str

    @classmethod
    def parse(cls, text: str) -> InGit:
        """Parse ``REPOSITORY@REVISION:PATH``. Raises RecipeError if it is not of that form."""
        match = _GIT.fullmatch(text.removeprefix(GIT))
        if match is None:
            raise RecipeError(
                f"{text!r} is not REPOSITORY@REVISION:PATH, e.g. "
                "https://example.org/models.git@main:recipes/demo.yaml"
            )
        repository, revision = match["repository"], match["revision"]
        if _HOST.fullmatch(repository):  # the @ is that of a password, and not shown
            raise RecipeError("--git: give REPOSITORY@REVISION:PATH, without credentials")
        # The user of ssh is the server's, mostly "git", and no secret.
        if credentials.found_in(_SSH_USER.sub(r"\1", repository)):
            raise RecipeError(credentials.REFUSED)
        if not _ADDRESS.fullmatch(repository):
            raise RecipeError(
                f"{repository!r} is a path of this machine; give the repository's URL"
            )
        path = PurePosixPath(match["path"])
        if revision.startswith("-") or path.is_absolute() or ".." in path.parts:
            raise RecipeError(f"{text!r}: the revision or the path is not valid")
        return cls(repository, revision, path.as_posix())

    def contains(self, reference: str) -> bool:
        """Return whether a path that the recipe names is in the repository."""
        target = PurePosixPath(os.path.normpath(PurePosixPath(self.path).parent / reference))
        return ".." not in target.parts

    def storage(self) -> GitRepository:
        """Return the repository as Prefect clones it."""
        from prefect.runner.storage import GitRepository

        if _COMMIT.fullmatch(self.revision):
            return GitRepository(self.repository, name=CLONE, commit_sha=self.revision)
        return GitRepository(self.repository, name=CLONE, branch=self.revision)

    def __str__(self) -> str:
        return f"{GIT}{self.repository}@{self.revision}:{self.path}"


def is_remote(source: str) -> bool:
    """Return whether an address is no plain path on this machine."""
    return source.startswith(GIT) or "://" in source


def pull_steps(source: str) -> list[dict[str, Any]]:
    """Return Prefect's steps by which a worker fetches a recipe before it runs.

    Without any step, Prefect would copy a folder of the machine that deployed.
    """
    storage = _storage(source)
    if storage is None:
        return [STAY]
    step = storage.to_pull_step()
    for options in step.values():
        options.pop("requires", None)  # or the worker would install a package that is missing
    return [step, STAY]


def local_path(source: str, folder: Path) -> Path:
    """Return where a recipe is after Prefect fetched it into a folder.

    Args:
        source: The recipe's address; a path is returned as it is.
        folder: The folder in which the pull steps ran.
    """
    storage = _storage(source)
    if storage is not None:
        storage.set_base_path(folder)
        inside = InGit.parse(source).path if source.startswith(GIT) else PurePath(source).name
        return storage.destination / inside
    if source.startswith(MOUNTED):
        return Path(fsspec.url_to_fs(source)[1])
    return Path(source)


def fetch(source: str, folder: Path) -> Path:
    """Let Prefect fetch a recipe, with the files that it names, into a folder; return its path.

    Raises RecipeError if there is no such recipe, ProviderError if it cannot be fetched.
    """
    storage = _storage(source)
    if storage is not None:
        storage.set_base_path(folder)
        try:
            asyncio.run(storage.pull_code())
        except Exception as error:
            raise ProviderError(f"{source} cannot be fetched: {error}") from error
    path = local_path(source, folder)
    if not path.is_file():
        raise RecipeError(f"{source}: no such recipe")
    return path


def _storage(source: str) -> GitRepository | RemoteStorage | None:
    """Return what Prefect fetches for a recipe; None if the recipe is used where it is."""
    if source.startswith(GIT):
        return InGit.parse(source).storage()
    if "://" not in source or source.startswith(MOUNTED):
        return None
    from prefect.runner.storage import RemoteStorage

    return RemoteStorage(source.rpartition("/")[0])


def send(recipe: Path, url: str, base: Path | None = None) -> str:
    """Send a recipe, with the files that it names, to a store; return its address there.

    The place is named for all their bytes, so a run that fetches them never finds them changed.
    Hidden files in a folder stay here: a model's folder is often a git clone, whose configuration
    may hold a password.

    Args:
        recipe: The recipe's file.
        url: The address of the store.
        base: The folder that the recipe's paths start from, if it is not the recipe's own.

    Raises:
        RecipeError: if a file is outside of ``base``.
    """
    values = yaml_file.read(recipe).values
    base = base or recipe.resolve().parent
    files = _files_of(recipe, values, base)
    digests = {name: file_sha256(path) for name, path in files.items()}
    store = Remote.open(url)
    store.check_writable()
    place = f"{RECIPES}/{values['name']}-{value_sha256(digests)[:12]}"
    for name in sorted(files, key=recipe.name.__eq__):  # the recipe last
        # An earlier transfer may have broken off.
        if store.sha256(f"{place}/{name}") != digests[name]:
            store.put(files[name], f"{place}/{name}")
    return f"{url.rstrip('/')}/{place}/{recipe.name}"


def _files_of(recipe: Path, values: dict[str, Any], base: Path) -> dict[str, Path]:
    """Return a recipe and the files that it needs, by their paths relative to ``base``."""
    files = {recipe.name: recipe}
    pending = list(_places(_references(values), base))
    while pending:
        path = base / beside(pending.pop(), str(recipe))
        candidates = [path]
        if path.is_dir():
            candidates = [
                file for file in sorted(path.rglob("*")) if not _hidden(file.relative_to(path))
            ]
        for file in candidates:
            name = file.relative_to(base).as_posix()
            if file.is_file() and name not in files:
                files[name] = file
                pending += _imported(file, name, base)
    return files


def _references(recipe: dict[str, Any]) -> Iterator[str]:
    """Yield every text in a recipe that may be a path beside it: not its name, not a column's.

    Of a stage or a task of its own it is ``module:``.
    """
    for key, value in recipe.items():
        if key == "data" and isinstance(value, dict):
            files = ("train", "dev", "eval", "unlabelled", "corpus")
            yield from filter(_is_path, map(value.get, files))
        elif key == "model":
            yield from filter(_is_path, [value])
        elif key in ("task", "stages"):
            yield from _paths_of_stage(value)


def _is_path(value: Any) -> bool:
    """Return whether the name of a file or model is a path beside the recipe, as "eval#1.csv"."""
    if not isinstance(value, str) or value in ("", "."):
        return False
    return len(value) <= _LONGEST and not value.startswith(_ELSEWHERE)


def _paths_of_stage(value: Any, custom: bool = False) -> Iterator[str]:
    """Yield every text of stages that may be a path, and no prompt; a stage's ``module:`` too.

    ``custom``: whether they are of a custom stage, whose words may be anything.
    """
    if isinstance(value, dict):
        for key, parameter in value.items():
            if key in BESIDE or (key in _IDS and not custom):
                continue
            if ":" in str(key):  # a custom stage; other keys are words of recipes
                yield from _paths_of_stage(key)
            yield from _paths_of_stage(parameter, custom or _is_custom(str(key)))
    elif isinstance(value, list):
        for item in value:
            yield from _paths_of_stage(item, custom)
    elif isinstance(value, str) and value and len(value) <= _LONGEST:
        module, colon, attribute = value.partition(":")
        names = [*module.split("."), attribute]
        if colon and all(name.isidentifier() for name in names):
            yield f"{module}:"
        elif not re.search(r"[\n?*:#]|^[/~.]?$|^[/~]|\\", value):
            yield value


def _is_custom(key: str) -> bool:
    """Return whether a key is a stage that is not ours: of the recipe, or of another package."""
    point = discovery.installed().get(key)
    if point is None:
        return ":" in key
    return point.value.partition(".")[0] not in plugin_code.OWN


def _hidden(inside: PurePath) -> bool:
    """Return whether a file in a folder that a recipe names is no part of a model or of data."""
    return any(part.startswith(".") or part == "__pycache__" for part in inside.parts)


def beside(reference: str, recipe: str) -> str:
    """Return a path that a recipe names, relative to its folder. Raises RecipeError if outside."""
    path = os.path.normpath(reference).replace(os.sep, "/")
    if path == ".." or path.startswith("../"):
        raise RecipeError(
            f"{recipe}: the recipe names {reference!r}, which is outside its folder and is not "
            "sent; put it next to the recipe, or use --git"
        )
    return path


def _places(references: Iterable[str], base: Path) -> set[str]:
    """Return the paths of what a recipe names; of modules, those that lie beside it."""
    paths: set[str] = set()
    for reference in references:
        if reference.endswith(":"):
            paths.update(_modules([reference.removesuffix(":")], base))
        else:
            paths.add(reference)
    return paths


def _imported(file: Path, name: str, base: Path) -> Iterator[str]:
    """Yield the modules beside the recipe that a file of code imports; ``name``: its path there."""
    if file.suffix != ".py":
        return
    inner = PurePosixPath(name).with_suffix("")
    package = ".".join(inner.parent.parts)
    module = package if inner.name == "__init__" else ".".join(inner.parts)
    try:
        names = list(plugin_code.imports(file.read_bytes(), module, package))
    except (SyntaxError, ValueError):
        return  # said when the stage is loaded
    yield from _modules(names, base)


def _modules(names: Iterable[str], base: Path) -> Iterator[str]:
    """Yield the paths of these modules, and of the packages that they are in, beside the recipe."""
    for name in names:
        top = name.partition(".")[0]
        if not top or top in plugin_code.OWN or top in sys.stdlib_module_names:
            continue
        for prefix in plugin_code.prefixes(name):
            stem = prefix.replace(".", "/")
            candidates = (f"{stem}.py", f"{stem}/__init__.py")
            files = [path for path in candidates if (base / path).is_file()]
            yield from files
            # A folder without __init__.py is a package as well.
            if not files and not (base / stem).is_dir():
                break
