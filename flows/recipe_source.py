"""Where a deployed run finds its recipe: behind a URL that fsspec reads, or in a git repository.

``s3://bucket/recipes/demo.yaml`` (also ``file://``, ``https://``, …): the recipe is fetched, and
the files and folders beside it that it names; of a folder, what is not hidden.
``git+REPOSITORY@REVISION:PATH``: the repository is cloned. Anything else is a path on this machine,
used where it is.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Literal

from pipeline.model import hub
from pipeline.recipe import yaml_source
from pipeline.recipe.recipe import BESIDE
from pipeline.stage import code, discovery
from pipeline.store.remote import Remote
from pipeline.store.remote_files import RemoteFiles
from pipeline.terms import credentials
from pipeline.terms.digests import file_sha256, value_sha256
from pipeline.terms.errors import ProviderError, RecipeError

GIT = "git+"
RECIPES = "recipes"
"""The folder of a store that holds what ``send`` sent."""
_GIT = re.compile(r"(?P<repository>.+)@(?P<revision>[^@:]+):(?P<path>[^:]+)")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://.+|[^/:@]+@[^/:]+:.+", re.IGNORECASE)
"""A URL, or ssh's short form ``user@host:path``."""
_SSH_USER = re.compile(r"^((?:git\+)?ssh://)[\w.-]+@")
_NETWORK = re.compile(
    r"could not resolve|timed? ?out|connection|hung up|early eof|unable to access|temporar", re.I
)
_REFUSED = re.compile(r"returned error: 4\d\d|certificate", re.I)
"""What git calls a failed access and what trying again does not change."""
Kind = Callable[[str], Literal["file", "folder"] | None]
"""Says what is at a path beside the recipe."""
_LONGEST = 300
"""Characters of the longest path that is looked for; longer texts are prompts."""
_IDS = frozenset(
    {"teacher", "teachers", "transfer", "answers", "table", "target", "samples", "models"}
)
"""Parameters of our stages that name steps, targets or splits, and no files."""
_HOST = re.compile(r"[a-z][a-z0-9+.-]*://[^/]*", re.IGNORECASE)
"""A URL that ends with its host."""
_ELSEWHERE = (hub.PREFIX, "package:", "/", "~")
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
        found = _GIT.fullmatch(text.removeprefix(GIT))
        if found is None:
            raise RecipeError(
                f"{text!r} is not REPOSITORY@REVISION:PATH, e.g. "
                "https://example.org/models.git@main:recipes/demo.yaml"
            )
        if _HOST.fullmatch(found["repository"]):  # the @ is that of a password, and not shown
            raise RecipeError("--git: give REPOSITORY@REVISION:PATH, without credentials")
        # The user of ssh is the server's, mostly "git", and no secret.
        if credentials.found_in(_SSH_USER.sub(r"\1", found["repository"])):
            raise RecipeError(credentials.REFUSED)
        if not _ADDRESS.fullmatch(found["repository"]):
            raise RecipeError(
                f"{found['repository']!r} is a path of this machine; give the repository's URL"
            )
        path = PurePosixPath(found["path"])
        if found["revision"].startswith("-") or path.is_absolute() or ".." in path.parts:
            raise RecipeError(f"{text!r}: the revision or the path is not valid")
        return cls(found["repository"], found["revision"], path.as_posix())

    def contains(self, reference: str) -> bool:
        """Return whether a path that the recipe names is in the repository."""
        there = PurePosixPath(os.path.normpath(PurePosixPath(self.path).parent / reference))
        return ".." not in there.parts

    def __str__(self) -> str:
        return f"{GIT}{self.repository}@{self.revision}:{self.path}"


def is_remote(source: str) -> bool:
    """Return whether a source is fetched, and not a path on this machine."""
    return source.startswith(GIT) or "://" in source


def fetch(source: str, folder: Path) -> Path:
    """Fetch a recipe, with the files that it names, into an empty folder; return its path.

    Raises RecipeError if it does not exist or names files that cannot be fetched, ProviderError if
    the place cannot be reached.
    """
    if source.startswith(GIT):
        return _clone(InGit.parse(source), folder)
    if "://" not in source:
        return Path(source)
    place, _, name = source.rpartition("/")
    there = RemoteFiles.open(place)
    data = there.read(name)
    if data is None:
        raise RecipeError(f"{source}: no such recipe")
    (folder / name).write_bytes(data)
    kind = cache(there.kind)
    for path in sorted(_places(_references(yaml_source.parse(data, source).values), kind)):
        _bring(there, path, folder, kind)
    return folder / name


def send(recipe: Path, url: str, base: Path | None = None) -> str:
    """Send a recipe, with the files that it names, to a store; return where workers find it.

    ``base``: the folder that its paths start from, if it is not its own. The place is named for all
    their bytes, so a run that fetches them never finds them changed. Hidden files in a folder stay
    here: a model's folder is often a git clone, whose configuration may hold a password. Raises
    RecipeError if a file is outside of ``base``.
    """
    values, base = yaml_source.read(recipe).values, base or recipe.resolve().parent
    files, kind = {recipe.name: recipe}, partial(_kind, base)
    todo = list(_places(_references(values), kind))
    while todo:
        path = base / beside(todo.pop(), str(recipe))
        inner = sorted(path.rglob("*")) if path.is_dir() else []
        shown = [each for each in inner if not _hidden(each.relative_to(path))]
        for each in [path] if path.is_file() else shown:
            inside = each.relative_to(base).as_posix()
            if each.is_file() and inside not in files:
                files[inside] = each
                todo += _imported(each, inside, kind)
    digests = {name: file_sha256(path) for name, path in files.items()}
    there = Remote.open(url)
    there.check_writable()
    place = f"{RECIPES}/{values['name']}-{value_sha256(digests)[:12]}"
    for name in sorted(files, key=recipe.name.__eq__):  # the recipe last
        if (
            there.sha256(f"{place}/{name}") != digests[name]
        ):  # an earlier transfer may have broken off
            there.put(files[name], f"{place}/{name}")
    return f"{url.rstrip('/')}/{place}/{recipe.name}"


def _clone(source: InGit, folder: Path) -> Path:
    """Clone a repository without the files of other revisions, where its server can do so."""
    _git("clone", "--quiet", "--no-checkout", "--filter=blob:none", "--", source.repository, folder)
    for revision in (f"origin/{source.revision}", source.revision):
        if not _run("-C", folder, "rev-parse", "--quiet", "--verify", f"{revision}^{{commit}}")[0]:
            _git("-C", folder, "checkout", "--quiet", "--detach", revision)
            break
    else:
        raise RecipeError(f"{source.repository}: there is no revision {source.revision!r}")
    path = folder / source.path
    if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
        raise RecipeError(f"{source}: no such recipe")
    return path


def _git(*arguments: str | Path) -> None:
    code, said = _run(*arguments)
    if code:
        # The last line says what git was doing when it gave up, the first what happened.
        line = next((line for line in said.splitlines() if _NETWORK.search(line)), None)
        if line is not None and _REFUSED.search(line):
            raise RecipeError(f"git: {line}")
        if line is not None:
            raise ProviderError(f"git: {line}") from ConnectionError(line)
        first = next(iter(said.strip().splitlines()), "it failed without a word")
        raise RecipeError(f"git: {first}")


def _run(*arguments: str | Path) -> tuple[int, str]:
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", *map(str, arguments)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise ProviderError("git is not installed on this machine; install it") from None
    return done.returncode, done.stderr


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
            yield from _named(value)


def _is_path(value: Any) -> bool:
    """Return whether the name of a file or model is a path beside the recipe, as "eval#1.csv"."""
    if not isinstance(value, str) or value in ("", "."):
        return False
    return len(value) <= _LONGEST and not value.startswith(_ELSEWHERE)


def _named(value: Any, own: bool = False) -> Iterator[str]:
    """Yield every text of stages that may be a path, and no prompt; a stage's ``module:`` too.

    ``own``: whether they are of a stage of the recipe's own, whose words may be anything.
    """
    if isinstance(value, dict):
        for key, each in value.items():
            if key in BESIDE or (key in _IDS and not own):
                continue
            if ":" in str(key):  # a stage of the recipe's own; other keys are words of recipes
                yield from _named(key)
            yield from _named(each, own or _is_of_others(str(key)))
    elif isinstance(value, list):
        for each in value:
            yield from _named(each, own)
    elif isinstance(value, str) and value and len(value) <= _LONGEST:
        module, colon, attribute = value.partition(":")
        if colon and all(map(str.isidentifier, [*module.split("."), attribute])):
            yield f"{module}:"
        elif not re.search(r"[\n?*:#]|^[/~.]?$|^[/~]|\\", value):
            yield value


def _is_of_others(key: str) -> bool:
    """Return whether a key is a stage that is not ours: of the recipe, or of another package."""
    point = discovery.installed().get(key)
    return ":" in key or (point is not None and point.value.partition(".")[0] not in code.OWN)


def _bring(there: RemoteFiles, reference: str, folder: Path, kind: Kind) -> None:
    """Fetch a file or a folder beside the recipe, if there is one, and what its code imports."""
    path = beside(reference, there.url)
    target = _inside(folder, path)
    if target.is_file():
        return
    found = kind(path)
    if found == "file":
        there.fetch(path, target, None)
        for name in _imported(target, path, kind):
            _bring(there, name, folder, kind)
    elif found == "folder":
        for name in there.sizes(path):
            if not _hidden(PurePosixPath(name)):
                _bring(there, f"{path}/{name}", folder, kind)


def _hidden(inside: PurePath) -> bool:
    """Return whether a file in a folder that a recipe names is no part of a model or of data."""
    return any(part.startswith(".") or part == "__pycache__" for part in inside.parts)


def beside(reference: str, recipe: str) -> str:
    """Return a path that a recipe names, relative to its folder. Raises RecipeError if outside."""
    path = os.path.normpath(reference).replace(os.sep, "/")
    if path == ".." or path.startswith("../"):
        raise RecipeError(
            f"{recipe}: the recipe names {reference!r}, which is outside its folder and is not "
            "fetched; put it beside the recipe, or use --git"
        )
    return path


def _places(references: Iterable[str], kind: Kind) -> set[str]:
    """Return the paths of what a recipe names; of modules, those that lie beside it."""
    found = set()
    for reference in references:
        module = reference.removesuffix(":")
        found |= {reference} if module == reference else set(_modules([module], kind))
    return found


def _imported(file: Path, path: str, kind: Kind) -> Iterator[str]:
    """Yield the modules beside the recipe that a file of code imports; ``path``: its own there."""
    if file.suffix != ".py":
        return
    inner = PurePosixPath(path).with_suffix("")
    package = ".".join(inner.parent.parts)
    name = package if inner.name == "__init__" else ".".join(inner.parts)
    try:
        names = list(code.imports(file.read_bytes(), name, package))
    except (SyntaxError, ValueError):
        return  # said when the stage is loaded
    yield from _modules(names, kind)


def _modules(names: Iterable[str], kind: Kind) -> Iterator[str]:
    """Yield the paths of these modules, and of the packages that they are in, beside the recipe."""
    for name in names:
        top = name.partition(".")[0]
        if not top or top in code.OWN or top in sys.stdlib_module_names:
            continue
        for each in code.prefixes(name):
            stem = each.replace(".", "/")
            found = [path for path in (f"{stem}.py", f"{stem}/__init__.py") if kind(path) == "file"]
            yield from found
            # A folder without __init__.py is a package as well.
            if not found and kind(stem) != "folder":
                break


def _kind(base: Path, path: str) -> Literal["file", "folder"] | None:
    there = base / path
    return "file" if there.is_file() else "folder" if there.is_dir() else None


def _inside(folder: Path, path: str) -> Path:
    target = (folder / path).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise RecipeError(f"{path}: leads outside the folder that is fetched")
    return target
