"""Distillation: train a smaller student to reproduce its teacher's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from rarefy.pipeline.model.architectures.families import Config
from rarefy.pipeline.stage import Context, Draft, Policy, StageCheck, located_model
from rarefy.pipeline.stage.located_model import Located
from rarefy.pipeline.store.artifact import Artifact, Kind, Metric
from rarefy.pipeline.terms.errors import ModelError, RecipeError
from rarefy.stages.training.parameters import Keeping, Training, changed
from rarefy.stages.transfer import files as transfer_set
from rarefy.stages.transfer.files import TRANSFER, Answering

if TYPE_CHECKING:
    from rarefy.pipeline.data.split import Split
    from rarefy.stages.teachers.outputs import TeacherOutputs


class Distill(Keeping):
    """Train a smaller student on its teacher's predictions, and on the labels.

    The student starts from some of the input's layers (DistilBERT, Sanh et al. 2019, arXiv
    1910.01108) or from another pretrained model. The loss is the sum of alpha · T² · KL(teacher ‖
    student), with both softened by the temperature T (Hinton et al. 2015, arXiv 1503.02531), and (1
    − alpha) · cross-entropy with the labels, averaged over the rows of a batch that have one. The
    teacher also labels unlabelled text of the domain (data.unlabelled) and a transfer set. Its
    outputs are computed once and stored. The loss on the development split, for ``keep: best``,
    combines predictions and labels with the same ``alpha``.

    Small students need longer training, a higher learning rate than the teacher and more text than
    the labelled rows.
    """

    name: ClassVar[str] = "distill"
    produces: ClassVar[Kind | None] = Kind.CHECKPOINT
    reads: ClassVar[frozenset[str]] = frozenset({"train", "dev", "unlabelled", "corpus"})
    libraries: ClassVar[tuple[str, ...]] = (*Training.libraries, "numpy")
    version: ClassVar[int] = 12
    policy: ClassVar[Policy] = Policy(needs={TRANSFER: Kind.TRANSFER_SET})

    transfer: str | None = Field(
        default=None,
        description="ID of an augment or label stage whose texts the teacher also labels",
    )
    keep_layers: int | tuple[int, ...] | None = Field(
        default=None,
        description="Layers of the input that the student keeps: indices, or a number to spread "
        "evenly",
    )
    student: str | None = Field(
        default=None, description="Pretrained model to use as the student instead"
    )
    vocabulary: bool = Field(
        default=False,
        description="Whether to first remove the tokens of `student` that the texts never use",
    )
    teacher: str | None = Field(
        default=None, description="ID of the earlier stage that is the teacher; default: the input"
    )
    temperature: float = Field(
        default=2.0, gt=0, le=100, description="Temperature that softens both models' predictions"
    )
    alpha: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="Weight of the teacher's predictions in the loss; labels have the rest",
    )
    epochs: int = Field(default=6, ge=1, le=1000, description="Number of passes over the rows")
    learning_rate: float = Field(
        default=1e-4, gt=0, lt=1, description="Peak learning rate, after warm-up"
    )

    @model_validator(mode="after")
    def _has_a_student(self) -> Distill:
        if self.keep_layers is not None and self.student is not None:
            raise ValueError(
                "give either 'keep_layers' of the input or a 'student' model, not both"
            )
        if self.keep_layers is None and self.student is None and self.teacher is None:
            raise ValueError("give 'keep_layers', a 'student', or an earlier stage as 'teacher'")
        if (isinstance(self.keep_layers, int) and self.keep_layers < 1) or self.keep_layers == ():
            raise ValueError("'keep_layers' must keep at least one layer")
        if self.vocabulary and self.student is None:
            raise ValueError("'vocabulary' needs a 'student'; otherwise put 'prune' before")
        return self

    @property
    def consumes(self) -> frozenset[Kind]:
        """A checkpoint; also a model without a head, if a transfer set may have the answers."""
        if self.transfer:
            return frozenset({Kind.CHECKPOINT, Kind.ENCODER})
        return frozenset({Kind.CHECKPOINT})

    def references(self) -> dict[str, str]:
        steps = {"teacher": self.teacher, TRANSFER: self.transfer}
        return {role: step for role, step in steps.items() if step}

    def check(self, recipe: StageCheck) -> None:
        """Raise RecipeError if a parameter means nothing for the task, or for stored answers."""
        task = recipe.task
        if not task.objective.of_labels and changed(self, ("temperature",)):
            raise RecipeError(f"temperature: not used by {task.name}; remove it")
        if task.head.body_only and changed(self, ("alpha",)):
            raise RecipeError(
                f"alpha: {task.name} learns from predictions only, without labels; remove it"
            )
        if isinstance(recipe.stages.get(self.transfer or ""), Answering):
            self._check_teacher()
        elif recipe.opened is not None and recipe.opened.input is Kind.ENCODER:
            raise RecipeError(
                "takes a checkpoint as its teacher, but the input is an encoder; put 'finetune' "
                f"before it, or a label stage between {self.transfer!r} and it"
            )

    def _check_teacher(self) -> None:
        """Raise RecipeError if a teacher is named that the answers replace.

        A teacher may be named where the input is the student.
        """
        if self.teacher and (self.keep_layers is not None or self.student is not None):
            raise RecipeError(
                f"teacher: {self.transfer!r} has the predictions already, so {self.teacher!r} is "
                "not used; remove it"
            )

    def files(self, base: Path) -> tuple[Path, ...]:
        """Return the config, weights and tokenizer of ``student``; empty if it is not given."""
        if self.student is None:
            return ()
        return _locate_student(self.student, base).files

    def follow_model(self, config: Config, references: Mapping[str, Config], base: Path) -> Config:
        """Check that the layers exist that the recipe names; return the student's config."""
        from rarefy.pipeline.model.architectures import parts

        if self.student is not None:
            return _locate_student(self.student, base).config
        if self.keep_layers is not None:
            try:
                parts.named(config)
            except ModelError as error:
                raise ModelError(
                    f"distill.keep_layers: {error}; give a 'student' instead"
                ) from error
            depth = parts.depth(config)
            if depth is not None:
                retained = choose_layers(self.keep_layers, depth)
                parts.check_layers(config, retained)
                config = parts.shortened(config, len(retained))
        return config

    def run(self, context: Context, model: Artifact) -> Draft:
        """Label all rows with the teacher, train the student, and save it."""
        from rarefy.pipeline.model import checkpoint
        from rarefy.stages.surgery import vocabulary
        from rarefy.stages.teachers import outputs as teaching
        from rarefy.stages.training import run as training

        training.prepare(context)
        student, tokenizer = self._open_student(context, model)
        transfer = context.artifacts[self.transfer] if self.transfer else None
        splits = transfer_set.learned(context, transfer)
        metrics: list[Metric] = []
        if self.vocabulary:
            tokenizer, unseen_tokens = vocabulary.prune(student, tokenizer, splits)
            metrics.append(unseen_tokens)
        groups = [splits]
        dev_splits = self._dev_splits(context, transfer)
        if dev_splits:
            groups.append(dev_splits)
        rows = []
        for group in groups:
            rows.append(training.labelled_rows(context, tokenizer, *group, numbered=True))
        if transfer_set.has_answers(transfer):
            pairs = zip(groups, rows, strict=True)
            outputs = [teaching.stored_outputs(context, transfer, *pair) for pair in pairs]
        else:
            outputs = self._teacher_outputs(context, model, groups)
        training.stop_dropout(student)  # soft targets regularize
        goals = teaching.goals(context, student, tokenizer, rows[0], *outputs)
        imitation = partial(
            teaching.imitation, context.task, alpha=self.alpha, temperature=self.temperature
        )
        losses = [imitation(goal) for goal in goals]
        judge = None
        if dev_splits:
            judge = training.mean_loss(context, tokenizer, rows[1], losses[1])
        trained = training.train(
            context,
            self,
            student,
            tokenizer,
            rows[0],
            losses[0],
            judge=judge,
            patience=self.patience,
        )
        roles = checkpoint.save(student, tokenizer, context.output)
        metrics += [*trained.metrics(), Metric(name="rows", split="train", value=len(rows[0]))]
        return Draft(roles, checkpoint.describe(student), tuple(metrics))

    def _dev_splits(self, context: Context, transfer: Artifact | None) -> list[Split]:
        """Return the development rows that are judged on, if any, and that have answers."""
        splits = []
        for split in self.judged_on(context):
            answered = transfer_set.answered(transfer, split)
            if not len(answered):
                raise ModelError(
                    f"distill.keep: no row of {split.name} has a prediction in {self.transfer!r}, "
                    "by which the best weights would be chosen; write keep: last"
                )
            splits.append(answered)
        return splits

    def _teacher_outputs(
        self, context: Context, model: Artifact, groups: Sequence[Sequence[Split]]
    ) -> list[TeacherOutputs]:
        """Run the teacher on the training rows, and on the development rows if there are some.

        Args:
            context: of the stage.
            model: the input, which is the teacher unless another is named.
            groups: the splits of the training rows, and those of the development rows.
        """
        from rarefy.stages.teachers import outputs as teaching
        from rarefy.stages.training import run as training

        artifact = context.artifacts[self.teacher] if self.teacher else model
        teacher, tokenizer = training.open_network(context, artifact)
        outputs = []
        for folder, splits in zip(("teacher", "teacher-dev"), groups, strict=False):
            rows = training.labelled_rows(context, tokenizer, *splits)
            outputs.append(teaching.outputs(context, teacher, tokenizer, rows, folder=folder))
        return outputs

    def _open_student(self, context: Context, model: Artifact) -> tuple[Any, Any]:
        """Return the student before its training, and its tokenizer."""
        from rarefy.pipeline.model import checkpoint
        from rarefy.stages.surgery import units as surgery
        from rarefy.stages.training import run as training

        if self.student is not None:
            return _open_pretrained(context, self.student)
        student, tokenizer = training.open_network(context, model)
        if self.keep_layers is not None:
            depth = len(checkpoint.encoder_layers(student))
            surgery.keep_layers(student, choose_layers(self.keep_layers, depth))
        return student, tokenizer


def _open_pretrained(context: Context, reference: str) -> tuple[Any, Any]:
    """Return a pretrained student with the task's head, and its tokenizer."""
    from rarefy.pipeline.model import checkpoint, padding, pooling
    from rarefy.stages.training import run as training

    source = _locate_student(reference, context.base)
    student = training.with_head(context, source.directory)
    if source.pooling is not None:
        pooling.note(student.config, source.pooling)
    tokenizer = checkpoint.load_tokenizer(source.directory)
    checkpoint.leave_out_types(student.config, tokenizer)
    padding.note(student.config, tokenizer)
    return student, tokenizer


def _locate_student(reference: str, base: Path) -> Located:
    """Find a pretrained student. Raises ModelError if it cannot be found or used."""
    return located_model.locate(reference, base, allow_pickle=False, key="distill.student")


def choose_layers(layers: int | Sequence[int], depth: int) -> tuple[int, ...]:
    """Return the layer indices as given, or that many, spread evenly from the first to the last.

    Raises ModelError if the model has no such layers.
    """
    if isinstance(layers, int):
        if layers > depth:
            raise ModelError(
                f"distill.keep_layers: cannot keep {layers} layers, the model has {depth}"
            )
        steps = max(layers - 1, 1)
        return tuple(number * (depth - 1) // steps for number in range(layers))
    missing = [layer for layer in layers if not 0 <= layer < depth]
    if missing or list(layers) != sorted(set(layers)):
        raise ModelError(
            f"distill.keep_layers: {list(layers)}: give indices from 0 to {depth - 1} in rising "
            "order"
        )
    return tuple(layers)
