"""What a stage is, what it is given, and how stages are found by name."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from pipeline.artifact import Artifact, Kind, Metric
from pipeline.errors import RecipeError

if TYPE_CHECKING:
    from pipeline.data import Split
    from pipeline.recipe import Target
    from pipeline.tasks import Task

ENTRY_POINTS = "rarefy.stages"


@dataclass(frozen=True)
class Draft:
    """What a stage says of the files it left in ``context.output``. Only the engine publishes.

    ``roles`` maps a file's relative path to its role (weights, tokenizer, config, graph, …).
    ``model`` goes into the manifest: architecture, labels, parameters, whatever the stage knows.
    """

    roles: dict[str, str] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()


@dataclass
class Context:
    """What is given to a stage beside its parameters.

    ``output``    an empty directory; what is written here becomes the artifact
    ``work``      a directory kept until the stage is done: a killed run finds it again, so a
                  long stage saves its progress here and goes on from it
    ``artifacts`` the artifacts of earlier stages, by the stage's id (a distillation's teacher)
    ``progress``  called as progress(done, total, note); cheap, call it often
    ``device``    "cpu" or "cuda"
    """

    task: Task
    splits: dict[str, Split]
    seed: int
    device: str
    threads: int
    work: Path
    output: Path
    artifacts: dict[str, Artifact]
    targets: tuple[Target, ...]
    base: Path
    progress: Callable[[float, float, str], None] = lambda done, total, note: None

    def split(self, name: str) -> Split:
        """Return a data split. Raises RecipeError where the recipe has none of that name."""
        if name not in self.splits:
            known = ", ".join(self.splits)
            raise RecipeError(f"data.{name}: the stage needs this split, the recipe has {known}")
        return self.splits[name]


class Stage(BaseModel):
    """A stage is its parameters: the fields are what a recipe may say.

    Subclasses set the class variables and write ``run``. Their docstring explains the technique
    and cites the paper; it is what ``rarefy recipe show`` prints.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

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

    def environment(self, context_targets: tuple[Target, ...]) -> dict[str, Any]:
        """Return facts of the machine that the output depends on, e.g. for a measurement."""
        return {}

    def run(self, context: Context, model: Artifact) -> Draft:
        """Do the work: read ``model``, write files to ``context.output``."""
        raise NotImplementedError


@cache
def installed() -> dict[str, EntryPoint]:
    """Return the entry points of all installed stages by name, without importing them."""
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def find(name: str) -> type[Stage]:
    """Return the stage class of a registered name or of ``package.module:Class``.

    Raises RecipeError with the nearest known name, or with what is broken in a plug-in.
    """
    if name in installed():
        point = installed()[name]
        load: Callable[[], Any] = point.load
        origin = f"{name} ({point.value})"
    elif ":" in name:
        module, _, attribute = name.partition(":")
        load = lambda: getattr(importlib.import_module(module), attribute)  # noqa: E731
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
    return found
