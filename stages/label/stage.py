"""Labelling: teachers answer the training rows and a transfer set once, for many students."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.sources import references
from rarefy.pipeline.stage import (
    Context,
    Draft,
    Opened,
    Policy,
    Requirements,
    Stage,
    StageCheck,
)
from rarefy.pipeline.store.artifact import MODELS, Artifact, Kind, Metric
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.terms.errors import ModelError, RecipeError
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.stages.training.parameters import EXPORTING, changed, cpu_has_bf16, refuse_unread
from rarefy.stages.transfer import files as transfer_set
from rarefy.stages.transfer.files import TEXTS, TRANSFER

if TYPE_CHECKING:
    from rarefy.stages.quantization.bundles import Finalists

log = logging.getLogger(__name__)

MANY = 20_000
"""Rows from which an export pays, which takes half a minute."""
NEAR = 0.01
"""The most divergence of the int8 export's answers from the float export's: nats, of labels."""
ANSWERS = "answers"
"""Name of the reference to the stage whose answers join."""


class Label(transfer_set.Answering):
    """Store the predictions of one or several teachers for the training rows and a transfer set.

    The predictions are stored in fp16, so that every later student learns from them without the
    teacher (distill: transfer). Many rows are labeled by the teacher's own int8 export, in one
    process per thread, if it is close to the float model on the development split, and otherwise by
    its fp32 export. Several teachers' raw outputs, e.g. logits, are averaged: an ensemble (Hinton
    et al. 2015, arXiv 1503.02531).

    With a ``file``, the predictions are those of another system, such as a large language model, a
    vendor or people. Each row of the file has the text of a row (or its ``id``), and its ``label``,
    ``probabilities``, ``spans`` or ``vector``. Rows without a prediction are not learned, and how
    many there are is reported. ``validate: {predictions: …}`` compares the bundle with them.

    The next stage receives the same input as this stage.
    """

    name: ClassVar[str] = "label"
    version: ClassVar[int] = 7
    produces: ClassVar[Kind | None] = Kind.TRANSFER_SET
    reads: ClassVar[frozenset[str]] = frozenset({"train", "dev", "unlabelled", "corpus"})
    libraries: ClassVar[tuple[str, ...]] = EXPORTING

    file: str | None = Field(
        default=None,
        description="File with the predictions of another system, instead of a teacher's: JSONL "
        "or Parquet, a path or reference as in data",
    )
    id: str | None = Field(
        default=None,
        description="Column of `file` that identifies its rows, as `data.id` does those of the "
        "data; default: their texts",
    )

    teachers: tuple[str, ...] = Field(
        default=(),
        description="IDs of earlier stages whose predictions are averaged with those of the input",
    )
    answers: str | None = Field(
        default=None,
        description="ID of an earlier label stage with the same texts, whose stored predictions "
        "join the average as one teacher's",
    )
    engine: Literal["auto", "pytorch", "int8", "float"] = Field(
        default="auto",
        description="Runtime of the teacher: int8 and float are its own export, in one process "
        "per thread, if its predictions are close enough; auto tries int8, then "
        "float, on a CPU and for many rows",
    )

    @model_validator(mode="after")
    def _has_one_source(self) -> Label:
        """Reject options of a teacher beside a file."""
        if self.file is None:
            refuse_unread(self, ("id",), "file")
            return self
        of_teachers = changed(self, ("teachers", "answers", "engine"))
        if of_teachers:
            raise ValueError(f"'file' has the predictions; remove {of_teachers[0]!r}")
        return self

    @property
    def policy(self) -> Policy:
        """Whether the stage reads its input, which is a teacher unless a file answers."""
        return Policy(
            aside=True,
            seeded=False,
            reads_input=self.file is None,
            needs={TRANSFER: Kind.TRANSFER_SET, ANSWERS: Kind.TRANSFER_SET},
        )

    @property
    def predictions_file(self) -> tuple[str, str | None] | None:
        """The file and its column of ids."""
        if self.file is None:
            return None
        return self.file, self.id

    @property
    def consumes(self) -> frozenset[Kind]:
        """A checkpoint, the teacher; any model but a bundle before the predictions of a file."""
        if self.file is None:
            return frozenset({Kind.CHECKPOINT})
        return MODELS - {Kind.BUNDLE}

    def files(self, base: Path) -> tuple[Path, ...]:
        """Return the file of predictions, if any."""
        if self.file is None:
            return ()
        return (references.data_file(self.file, base, "label.file"),)

    def _check_file(self, file: str, opened: Opened) -> None:
        """Raise DataError if the file's predictions are wrong, or for too few of the rows."""
        from rarefy.stages.label import from_file

        splits: list[Split] = []
        if self.transfer is None:  # whose texts are not made yet
            splits = self._splits(opened.rows())
        from_file.check(file, self.id, opened.task, opened.base, splits)

    def _splits(self, splits: Mapping[str, Split]) -> list[Split]:
        """Return those of the recipe's splits that are answered."""
        return [splits[name] for name in sorted(self.reads & splits.keys())]

    def references(self) -> dict[str, str]:
        steps = {f"teacher:{name}": name for name in self.teachers}
        if self.transfer:
            steps[TRANSFER] = self.transfer
        if self.answers:
            steps[ANSWERS] = self.answers
        return steps

    def check(self, recipe: StageCheck) -> None:
        """Raise RecipeError if a parameter does not fit the task, or an earlier stage.

        For example, if an earlier stage has no texts, or no answers to the same texts.
        """
        self._check_task(recipe.task)
        if self.file is not None and recipe.opened is not None:
            self._check_file(self.file, recipe.opened)
        transfer_set.check_texts(recipe.stages, self.transfer)
        if self.answers:
            self._check_answers(self.answers, recipe.stages)

    def _check_task(self, task: Task) -> None:
        """Raise RecipeError if answers have no mean, or no export or file can answer."""
        if self.file is not None:
            self._check_form(task)
        if self.engine in ("int8", "float") and task.objective.linear is None:
            raise RecipeError(
                f"engine: {self.engine} is for labels and scores of rows, not for {task.name}; "
                "write auto or pytorch"
            )
        several = self.teachers or self.answers
        if several and task.head.body_only:
            raise RecipeError(
                f"teachers: predictions of {task.name} cannot be averaged; use one teacher"
            )

    def _check_form(self, task: Task) -> None:
        """Raise RecipeError if a file can have no predictions for a task."""
        from rarefy.stages.transfer import forms

        if forms.of_task(task) is None:
            raise RecipeError(f"file: the predictions of {task.name} cannot be read from a file")
        if self.id and task.head.body_only:
            raise RecipeError("id: vectors are those of texts, which identify them; remove it")

    def _check_answers(self, name: str, stages: Mapping[str, Stage]) -> None:
        """Raise RecipeError if an earlier stage has no answers, or none to the same texts.

        Args:
            name: the earlier stage's id, ``answers``.
            stages: all earlier stages, by id.
        """
        earlier = stages.get(name)
        if earlier is None or earlier.produces is not Kind.TRANSFER_SET:
            return  # the check of kinds refuses it
        if not isinstance(earlier, Label):
            raise RecipeError(f"answers: {name!r} has no predictions; name a label stage")
        if earlier.file is not None:
            raise RecipeError(f"answers: {name!r} has those of a file, which cannot be averaged")
        if self.transfer and not earlier.transfer:
            raise RecipeError(
                f"answers: {name!r} has none for the texts of {self.transfer!r}; give it "
                f"'transfer: {self.transfer}' as well"
            )
        if earlier.transfer and not self.transfer:
            raise RecipeError(
                f"answers: {name!r} has some for the texts of {earlier.transfer!r}; write "
                f"'transfer: {name}' here as well"
            )
        if self.transfer:
            check_answered(stages, self.transfer, name)

    def environment(self, requirements: Requirements) -> dict[str, Any]:
        """Return whether the CPU has bfloat16, in which the teachers then answer."""
        if self.file is not None:
            return {}
        return {"cpu_bf16": cpu_has_bf16()}

    def run(self, context: Context, model: Artifact) -> Draft:
        """Write the texts, and the answers to them and to the recipe's rows.

        Raises DataError if the transfer set has no texts, ModelError if ``answers`` are to others.
        """
        splits = self._splits(context.splits)
        texts = None
        if self.transfer:
            texts = transfer_set.named(context, self.transfer)
        if self.file is not None:
            from rarefy.stages.label import from_file

            return from_file.draft(self.file, self.id, context, splits, texts)
        if texts is not None:
            splits.append(texts)
        if self.answers:
            self._check_same_texts(context.artifacts, splits)
        teachers = {model.digest: model}
        for name in self.teachers:
            teacher = context.artifacts[name]
            teachers[teacher.digest] = teacher
        outputs, divergences = self.mean_outputs(context, list(teachers.values()), splits)
        if self.answers:
            self._join(outputs, len(teachers), context.artifacts)
        metrics = [Metric(name="rows", value=sum(map(len, splits)))]
        if divergences:
            largest = round(max(divergences), 6)
            metrics.append(Metric(name="export_divergence", split="dev", value=largest))
        roles: dict[str, str] = {}
        facts: dict[str, Any] = {}
        if texts is not None:
            roles = transfer_set.write(context.output, _pairs(texts))
            facts = {TEXTS: len(texts)}
        roles |= transfer_set.write_answers(context.output, outputs)
        return Draft(roles, facts, tuple(metrics))

    def mean_outputs(
        self, context: Context, teachers: list[Artifact], splits: list[Split]
    ) -> tuple[dict[str, Any], list[float]]:
        """Return split -> the mean of the teachers' raw outputs (units, width).

        And how far the answers of each teacher's export are from its own, where one answered.
        """
        from rarefy.stages.training import run as training

        training.prepare(context)
        means: dict[str, Any] = {}
        divergences = []
        for artifact in teachers:
            network, tokenizer = training.open_network(context, artifact)
            bundle, divergence = self._bundle(context, network, tokenizer, artifact, splits)
            if divergence is not None:
                divergences.append(divergence)
            for split in splits:
                folder = f"{artifact.short}-{split.name}"
                if bundle is not None:
                    outputs = _bundle_outputs(context, bundle, split, folder)
                else:
                    outputs = _network_outputs(context, network, tokenizer, split, folder)
                if means.get(split.name, outputs).shape != outputs.shape:
                    raise ModelError(
                        f"label.teachers: {artifact.short} gives outputs of another shape, "
                        "which cannot be averaged"
                    )
                share = outputs / len(teachers) if len(teachers) > 1 else outputs
                means[split.name] = means[split.name] + share if split.name in means else share
        return means, divergences

    def _check_same_texts(self, artifacts: Mapping[str, Artifact], splits: Sequence[Split]) -> None:
        """Raise ModelError if the earlier stage's answers are to other splits or texts."""
        earlier = artifacts[str(self.answers)]
        texts = artifacts.get(str(self.transfer))
        same = transfer_set.answers(earlier).keys() == {split.name for split in splits}
        if texts is not None:
            same = same and transfer_set.same_texts(earlier, texts)
        if not same:
            raise ModelError(f"label.answers: {self.answers!r} has predictions for other texts")

    def _join(
        self,
        outputs: dict[str, Any],
        teachers: int,
        artifacts: Mapping[str, Artifact],
    ) -> None:
        """Add an earlier stage's answers to the mean, in place.

        Args:
            outputs: split -> the mean of the teachers' raw outputs (units, width).
            teachers: how many answers the mean is of.
            artifacts: those that the stage refers to.

        Raises:
            ModelError: if the outputs have another shape.
        """
        earlier = transfer_set.answers(artifacts[str(self.answers)])
        for name, mean in outputs.items():
            if earlier[name].shape != mean.shape:
                raise ModelError(
                    f"label.answers: {self.answers!r} has other outputs, or predictions for other "
                    "rows"
                )
        for name, mean in outputs.items():
            outputs[name] = (mean * teachers + earlier[name]) / (teachers + 1)

    def _bundle(
        self,
        context: Context,
        network: Any,
        tokenizer: Any,
        artifact: Artifact,
        splits: list[Split],
    ) -> tuple[Path | None, float | None]:
        """Return the export that is to answer, None if PyTorch is, and its divergence if measured.

        Raises ModelError if an export is requested but its answers are not near, or the task's
        units are not its rows.
        """
        from rarefy.stages.label.shard_worker import TOGETHER
        from rarefy.stages.quantization.bundles import Finalists

        many = sum(map(len, splits)) >= MANY
        problem = _export_problem(context)
        if self.engine == "pytorch" or (self.engine == "auto" and (problem or not many)):
            return None, None
        if problem:
            raise ModelError(f"label.engine: {self.engine}: {problem}; write auto or pytorch")
        if hasattr(network, "merge_and_unload"):  # an adapter has no export of its own
            network = copy.deepcopy(network).merge_and_unload(safe_merge=True).eval()
        export_context = replace(
            context,
            work=context.work / f"{artifact.short}-export",
            requirements=Requirements(targets=(Target(),)),
        )
        finalists = Finalists(export_context, network, tokenizer, together=TOGETHER)
        if self.engine != "float":
            try:
                return _near_int8(finalists)
            except ModelError as error:  # no export, or its answers are far from PyTorch's
                if self.engine == "int8":
                    raise
                log.warning("%s; using the float export instead, which takes longer", error)
        try:
            return finalists.build(None), None  # compared with PyTorch as every export is
        except ModelError as error:
            if self.engine == "float":
                raise
            log.warning("%s; using PyTorch instead, which takes longer", error)
        return None, None


def _pairs(split: Split) -> Iterator[transfer_set.Pair]:
    """Yield each row's text, with its second text if rows are pairs."""
    if split.pairs:
        return zip(split.texts, split.pairs, strict=True)
    return ((text, None) for text in split.texts)


def _bundle_outputs(context: Context, bundle: Path, split: Split, folder: str) -> Any:
    """Return a bundle's raw outputs for a split (units, width), in a process for each thread."""
    import torch

    from rarefy.stages.label import shards

    work = context.work / folder
    outputs = shards.answered(bundle, split, work, context.threads, context.progress)
    return torch.from_numpy(outputs)


def _network_outputs(
    context: Context, network: Any, tokenizer: Any, split: Split, folder: str
) -> Any:
    """Return a network's raw outputs for a split (units, width), computed in PyTorch."""
    from rarefy.stages.teachers import outputs as teaching
    from rarefy.stages.training import run as training

    rows = training.labelled_rows(context, tokenizer, split)
    return teaching.outputs(context, network, tokenizer, rows, folder=folder).logits


def _export_problem(context: Context) -> str | None:
    """Return why no export of a teacher can answer the task's rows; None if one can."""
    task = context.task
    if task.windows:
        return "an export reads long texts in windows, but a teacher reads their beginning"
    if task.objective.linear is None or context.device != "cpu":
        return "it is for labels and scores of rows, on a CPU"
    return None


def _near_int8(finalists: Finalists) -> tuple[Path, float]:
    """Return the first int8 export whose answers are near the float model's, and its divergence.

    Raises ModelError, which says how far the last one is, if none is near.
    """
    problem = ModelError("")
    for bundle in finalists.int8():
        divergence = finalists.damage(bundle)
        if divergence <= NEAR:
            return bundle, divergence
        problem = ModelError(
            f"label.engine: the int8 export's predictions for dev differ by {divergence:.3g}, "
            f"more than {NEAR:g}; use float"
        )
    raise problem


def check_answered(stages: Mapping[str, Stage], transfer: str, answers: str) -> None:
    """Raise RecipeError if an earlier label stage has predictions for other texts."""
    origin = _origin(stages, answers)
    if origin != _origin(stages, transfer):
        raise RecipeError(
            f"answers: {answers!r} has predictions for the texts of {origin!r}, and none for "
            "those of "
            f"{transfer!r}; write 'transfer: {answers}'"
        )


def _origin(stages: Mapping[str, Stage], step: str) -> str:
    """Return the step that made a step's texts, before one label stage after another."""
    stage = stages.get(step)
    if isinstance(stage, Label) and stage.transfer:
        return _origin(stages, stage.transfer)
    return step
