"""What a stage is, what it is given, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from pipeline.stage.data import Split
from pipeline.stage.resources import Resources, Workload
from pipeline.stage.tasks import Task
from pipeline.store.artifact import Artifact, Kind, Metric
from pipeline.terms.budget import Budget
from pipeline.terms.errors import RecipeError
from pipeline.terms.progress import Progress, silent
from pipeline.terms.vocabulary import Target

Quantization = Literal["loses", "keeps", "plans"]
"""What a stage does to a quantization plan; see ``Stage.quantization``."""


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
    progress: Progress = silent

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
    quantization: ClassVar[Quantization] = "loses"
    """What becomes of the input's quantization plan (``pipeline/model/quantization.py``).

    "loses": the output has none, so the recipe may not put the stage after ``quantize``. "keeps":
    modules keep their names and their inputs about the same ranges, so the plan stays true; the
    engine copies it along, and a bundle has its precision. "plans": the stage writes a plan.
    """

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

    def resources(self, work: Workload) -> Resources:
        """Return the disk and memory that the work will need, as far as the stage can say.

        ``rarefy plan`` shows it, and a run is refused if the machine surely has less.
        """
        return Resources()

    def run(self, context: Context, model: Artifact) -> Draft:
        """Do the work: read ``model``, write files to ``context.output``."""
        raise NotImplementedError
