"""What a stage is, what it is given, and how stages are found by name."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import SourceFileLoader
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from pipeline.artifact import Artifact, Kind, Metric
from pipeline.errors import RecipeError

if TYPE_CHECKING:
    from pipeline.data import Split
    from pipeline.recipe import Budget, Target
    from pipeline.tasks import Task

ENTRY_POINTS = "rarefy.stages"
OWN = ("stages", "pipeline")
"""The packages whose stages say by their version that their output changed."""


@dataclass(frozen=True)
class Draft:
    """What a stage says of the files it left in ``context.output``. Only the engine publishes.

    ``roles`` maps a file's relative path to its role (weights, tokenizer, config, graph, …).
    ``model`` goes into the manifest: architecture, labels, parameters, whatever the stage knows.
    What does not last is published, and made again by the next run: a measurement that was
    disturbed.
    """

    roles: dict[str, str] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()
    lasts: bool = True


@dataclass(frozen=True)
class Asked:
    """What a recipe asks for beside its stages, as far as a stage's output may depend on it.

    ``baselines``: what budgets compare with that is no stage of the recipe, a tag -> its digest.
    """

    targets: tuple[Target, ...] = ()
    budgets: tuple[Budget, ...] = ()
    slices: tuple[str, ...] = ()
    baselines: dict[str, str] = field(default_factory=dict)


@dataclass
class Context:
    """What is given to a stage beside its parameters.

    ``output``    an empty directory; what is written here becomes the artifact
    ``work``      a directory kept until the stage is done: a killed run finds it again, so a
                  long stage saves its progress here and goes on from it
    ``splits``    the data splits that the stage names in ``reads``
    ``artifacts`` its input and what it names in ``references``, by step id (its teacher)
    ``progress``  called as progress(done, total, note); cheap, call it often
    ``device``    "cpu" or "cuda"
    ``asked``     targets, budgets and slices of the recipe; what is read of it must be told by
                  ``environment``
    ``baselines`` the artifacts of the tags that budgets compare with
    """

    task: Task
    splits: dict[str, Split]
    seed: int
    device: str
    threads: int
    work: Path
    output: Path
    artifacts: dict[str, Artifact]
    base: Path
    asked: Asked = Asked()
    baselines: dict[str, Artifact] = field(default_factory=dict)
    progress: Callable[[float, float, str], None] = lambda done, total, note: None

    @property
    def targets(self) -> tuple[Target, ...]:
        return self.asked.targets

    def split(self, name: str) -> Split:
        """Return a data split. Raises RecipeError where it was not given: see ``Stage.reads``."""
        if name not in self.splits:
            known = ", ".join(self.splits) or "none"
            raise RecipeError(
                f"data.{name}: the stage asks for this split and was given {known}; the recipe "
                "must have it, and the stage name it in 'reads'"
            )
        return self.splits[name]


class Stage(BaseModel):
    """A stage is its parameters: the fields are what a recipe may say.

    Subclasses set the class variables and write ``run``. Their docstring explains the technique
    and cites the paper; it is what ``rarefy recipe show`` prints.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Raise it when the output for the same input changes."""
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.CHECKPOINT})
    produces: ClassVar[Kind | None] = Kind.CHECKPOINT
    """None: the kind of the input."""
    reads: ClassVar[frozenset[str]] = frozenset({"train"})
    """The data splits whose bytes belong to the fingerprint."""
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    """The distributions whose versions change the output."""

    sees_ancestors: ClassVar[bool] = False
    """Whether all earlier artifacts of the chain are given too, and belong to the fingerprint."""

    def references(self) -> dict[str, str]:
        """Return earlier stages that this one needs beside its input: role -> stage id."""
        return {}

    def files(self, base: Path) -> tuple[Path, ...]:
        """Return files that the stage reads beside the splits; ``base``: the recipe's folder."""
        return ()

    def measures(self, kinds: dict[str, Kind]) -> tuple[str, ...]:
        """Return the steps, of id -> kind, that budgets may compare with."""
        return tuple(kinds) if self.produces is Kind.REPORT else ()

    def environment(self, asked: Asked) -> dict[str, Any]:
        """Return what the output depends on beside data and parameters: the machine, targets."""
        return {}

    def run(self, context: Context, model: Artifact) -> Draft:
        """Do the work: read ``model``, write files to ``context.output``."""
        raise NotImplementedError


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
        near = difflib.get_close_matches(name, installed(), n=1)
        hint = f", did you mean {near[0]!r}?" if near else f"; known: {', '.join(installed())}"
        raise RecipeError(f"unknown stage {name!r}{hint}")
    try:
        found = load()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise RecipeError(f"stage {origin} cannot be loaded: {reason}") from error
    if not (isinstance(found, type) and issubclass(found, Stage)):
        raise RecipeError(f"stage {origin} is not a subclass of pipeline.stage.Stage")
    if not isinstance(getattr(found, "name", None), str):
        raise RecipeError(f"stage {origin} has no name: set `name: ClassVar[str]` in the class")
    return found


def source_files(kind: type[Stage]) -> list[Path]:
    """Return the files that define a third party's stage; rarefy's own have versions instead."""
    names = {base.__module__ for base in kind.__mro__ if issubclass(base, Stage)}
    files = (
        getattr(sys.modules.get(name), "__file__", None)
        for name in names
        if name.partition(".")[0] not in OWN
    )
    return sorted(Path(file) for file in files if file)


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
