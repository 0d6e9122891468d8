"""The interface between a stage and the engine: parameters, inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from inspect import isfunction
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.model.architectures.families import Config
from rarefy.pipeline.sources import plugin_code
from rarefy.pipeline.store.artifact import Artifact, Curve, Kind, Metric
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.terms.progress import Progress, silent
from rarefy.pipeline.terms.recipe_parts import Target

OLD_SWITCHES: Final = {"keeps": "keeps_files"}
"""Class variables that stages once had, and the switches of ``Policy`` that they are now."""
OLD_CHECKS: Final = ("check_task", "check_columns", "check_length", "check_named", "misfit")
"""Methods that stages once had, which are one ``check`` now."""

Quantization = Literal["loses", "keeps", "plans"]
"""How a stage treats a quantization plan; see ``Policy.quantization``."""


@dataclass(frozen=True)
class Policy:
    """Rare switches of a stage; the defaults suit most."""

    quantization: Quantization = "loses"
    """What happens to the input's quantization plan (``pipeline/model/quantization/plan.py``).

    "loses": the output has no plan, so the stage cannot come after ``quantize``. "keeps": module
    names and input ranges stay about the same, so the plan stays valid; the engine copies it, and a
    bundle gets its precision. Weights that the plan has in int4 must not
    change at all. "plans": the stage writes a plan.
    """

    needs_labels: bool = False
    """Whether it is pointless on rows whose only labels are the answers of the recipe's model."""

    sees_ancestors: bool = False
    """Whether the stage also receives all earlier artifacts, which then join the fingerprint."""

    aside: bool = False
    """Whether the next stage goes on from this one's input, since its output is not a model.

    A later stage names it in ``references``.
    """

    reads_input: bool = True
    """Whether the stage reads its input; if not, another input does not make it run again.

    ``run`` then gets None for it, and no answers of the recipe's model to rows without labels.
    """

    trains_all_weights: bool = False
    """Whether it trains all weights of its input with AdamW, and removes none of them.

    It then needs memory for four times the weights: themselves, their gradients and two moments.
    A run is refused if the machine has less.
    """

    seeded: bool = True
    """Whether the recipe's seed shapes the output; if not, the stage gets 0 instead.

    Another seed of the recipe does not make it run again then. (A seed in its own entry does.)
    """

    timed: bool = False
    """Whether most of the work is to time, so that no other run on the machine may time meanwhile.

    A stage that times now and then takes ``rarefy.pipeline.measure.exclusive`` itself.
    Either says when
    something is measured, not what, so it is not part of the fingerprint.
    """

    keeps_files: bool = False
    """Whether it leaves files in ``context.shared`` for runs with other parameters or budgets.

    One run at a time has that directory, and ``gc`` may empty it between two. A file in it must
    follow from its name, the task, how rows are read and the versions of code and libraries alone,
    such as one named by the digest of the artifact that it was made of.
    """

    needs: Mapping[str, Kind] = field(default_factory=dict)
    """The kind of the artifact that each role of ``references`` needs; a model if not listed.

    A ``teacher`` is a model with a head for the task: a checkpoint or an adapter.

    Roles that differ only after a colon, as of a stage that takes several, need the same.
    """


@dataclass(frozen=True)
class Draft:
    """A stage's description of the files it wrote to ``context.output``; the engine publishes it.

    Args:
        roles: each file's relative path -> its role (weights, tokenizer, config, graph, …).
        model: entries for the manifest: architecture, labels, parameters.
        metrics: values that the stage has measured.
        lasts: False for a result that is published but recomputed by the next run, such as a
            disturbed measurement.
    """

    roles: dict[str, str] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()
    lasts: bool = True


@dataclass(frozen=True)
class Requirements:
    """The parts of a recipe, besides its stages, that a stage's output may depend on.

    Args:
        targets: the settings to measure on.
        budgets: the recipe's budgets.
        slices: the columns of ``data.slices``.
        baselines: each tag that budgets compare with -> its digest.
    """

    targets: tuple[Target, ...] = ()
    budgets: tuple[Budget, ...] = ()
    slices: tuple[str, ...] = ()
    baselines: dict[str, str] = field(default_factory=dict)


StoppingRule = Callable[[Target, Any], Callable[[Any], bool] | None]
"""Gets a target and what was measured so far (``measure.measurements.Measurements``).

Returns what says of the latencies there (``Latency``), or of the ``Throughput``, whether they
suffice; None if nobody asks.
"""


def never_stop(target: Target, measurements: Any) -> None:
    """Ask nothing of latencies: as many are measured as the stage's parameters say."""
    return


@dataclass
class Context:
    """Everything that a stage receives besides its parameters.

    Args:
        task: the recipe's task, with its labels.
        splits: the data splits that the stage lists in ``reads``.
        seed: the seed of all random numbers; 0 if the stage is not ``seeded``.
        device: "cpu" or "cuda".
        threads: intra-op threads of the training.
        work: a directory kept until the stage succeeds; a long stage saves its progress here so
            that it can resume after the run is killed.
        output: an empty directory whose contents become the artifact.
        artifacts: the input and the artifacts listed in ``references``, by step id.
        progress: called as progress(done, total, note); cheap, so call it often.
        shared: a directory that later runs of the stage share; None unless its policy is
            ``keeps_files``.
        requirements: targets, budgets and slices of the recipe; ``environment`` must return
            whatever the stage reads from them.
        baselines: the artifacts of the tags that budgets compare with.
        stopping_rule: decides when enough latencies are timed for the recipe's budgets.
        throughput_rule: decides the same for rows per second.
        curves: receives the losses of a training by its name; they are recorded with the
            artifact, outside its digest.
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
    requirements: Requirements = Requirements()
    baselines: dict[str, Artifact] = field(default_factory=dict)
    progress: Progress = silent
    shared: Path | None = None
    stopping_rule: StoppingRule = never_stop
    throughput_rule: StoppingRule = never_stop
    curves: dict[str, Curve] = field(default_factory=dict)

    @property
    def targets(self) -> tuple[Target, ...]:
        return self.requirements.targets

    def split(self, name: str) -> Split:
        """Return a data split. Raises RecipeError if the stage does not have it; see ``reads``."""
        if name not in self.splits:
            names = ", ".join(self.splits) or "none"
            raise RecipeError(
                f"data.{name}: the stage needs this split but received only {names}; define it in "
                "the recipe and list it in the stage's 'reads'"
            )
        return self.splits[name]


@dataclass(frozen=True)
class Opened:
    """What is known of a recipe once its model and data are opened, for the check of one stage.

    ``task``  of the recipe, with its labels
    ``input`` the kind of the stage's input
    ``base``  the recipe's folder
    ``rows``  reads the splits
    """

    task: Task
    input: Kind
    base: Path
    rows: Callable[[], Mapping[str, Split]]


@dataclass(frozen=True)
class StageCheck:
    """The rest of a recipe, as far as it is known before a run, for the check of one stage.

    Args:
        task: the recipe's task.
        max_length: the maximum length of a row in tokens, ``data.max_length``.
        targets: the recipe's targets.
        stages: all earlier stages, by step id.
        planner: the stage whose quantization plan this one keeps; None if there is no plan.
        exporter: the stage that makes the input, if that is a bundle with a plan; else None.
        input: the kind of the input, as the stage that makes it declares it.
        opened: the recipe's model and data; None in the check before they are opened.
    """

    task: Task
    max_length: int
    targets: tuple[Target, ...] = (Target(),)
    stages: Mapping[str, Stage] = field(default_factory=dict)
    planner: Stage | None = None
    exporter: Stage | None = None
    input: Kind = Kind.CHECKPOINT
    opened: Opened | None = None


class Stage(BaseModel):
    """Base class of stages. The fields are the parameters that a recipe can set.

    Subclasses set the class variables and implement ``run``. Their docstring, which
    ``rarefy recipe show`` prints, explains the technique and cites the paper.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Remember the bytes of the class's code, which are part of the fingerprint.

        Raises TypeError if the class sets what is a switch of ``policy``, or has an old check.
        """
        super().__pydantic_init_subclass__(**options)
        _refuse_unread(cls)
        plugin_code.note(cls)

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Increase it when the output for the same input changes."""
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.CHECKPOINT})
    produces: ClassVar[Kind | None] = Kind.CHECKPOINT
    """None means the same kind as the input."""
    reads: ClassVar[frozenset[str]] = frozenset({"train"})
    """The data splits that the stage reads; their bytes are part of the fingerprint."""
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "tokenizers")
    """The distributions whose versions affect the output; they are part of the fingerprint.

    Those that read the data are added for a stage that reads some.
    """
    policy: ClassVar[Policy] = Policy()
    """What the engine may and must not do with the stage; the defaults suit most."""

    def references(self) -> dict[str, str]:
        """Return the earlier stages that this one needs besides its input: role -> stage id."""
        return {}

    def files(self, base: Path) -> tuple[Path, ...]:
        """Return the files that the stage reads besides the splits; ``base``: recipe's folder."""
        return ()

    def measures(self, kinds: Mapping[str, Kind]) -> tuple[str, ...]:
        """Return the ids, from a mapping of step id -> kind, that budgets may compare with."""
        is_report = self.produces is Kind.REPORT and not self.policy.aside
        return tuple(kinds) if is_report else ()

    def check(self, recipe: StageCheck) -> None:
        """Raise RecipeError if a parameter does not fit the rest of the recipe.

        Called by ``rarefy recipe check`` and before a run, before the model and the data are
        opened and the kinds of artifacts are checked; and again after that, with ``opened``, if the
        stage's result is not in the store. The message begins with the parameter.
        """
        return

    def follow_model(self, config: Config, references: Mapping[str, Config], base: Path) -> Config:
        """Check that the stage can work on a model, and return the config of the one it makes.

        Called by ``rarefy recipe check`` and before a run. ``config`` is what is known of the
        input's config.json: its ``model_type`` and number of layers are those that it will have.
        ``references`` has the configs of the models in ``references()``, by role; ``base`` is the
        recipe's folder. Raises ModelError if the stage cannot work on such a model.
        """
        return config

    def environment(self, requirements: Requirements) -> dict[str, Any]:
        """Return what else the output depends on besides data and parameters: machine, targets."""
        return {}

    def run(self, context: Context, model: Artifact) -> Draft:
        """Do the work: read ``model``, write files to ``context.output`` and describe them."""
        raise NotImplementedError


def _refuse_unread(kind: type[Stage]) -> None:
    """Raise TypeError if a class has a member that a stage once had, and that nothing reads now."""
    switches = {switch.name: switch.name for switch in fields(Policy)} | OLD_SWITCHES
    for name, value in vars(kind).items():
        if name in OLD_CHECKS:
            raise TypeError(
                f"{kind.__name__}.{name} is never called; check it in `check(self, recipe)`"
            )
        if name in switches and not isfunction(value):
            raise TypeError(
                f"{kind.__name__}.{name} is never read; write `policy: ClassVar[Policy] = "
                f"Policy({switches[name]}=…)`"
            )
