"""Distillation: train a smaller student to reproduce its teacher's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator

from pipeline.model.architectures.description import Config
from pipeline.stage import Context, Draft, Stage, locating
from pipeline.stage.locating import Located
from pipeline.store.artifact import Artifact, Kind, Metric
from pipeline.terms.errors import ModelError, RecipeError
from stages import training, transfer_set
from stages.inside import Inside, need_parts, same_tokens
from stages.label import Label
from stages.parameters import Keeping, Loss, Row, Training, changed, check_answers
from stages.schedule import Clock, ScheduledShare
from stages.transfer_set import TRANSFER

if TYPE_CHECKING:
    from pipeline.stage.split import Split
    from pipeline.stage.tasks import Task
    from stages.aims import Aims
    from stages.teacher import TeacherOutputs


class Lesson(NamedTuple):
    """What a student learns: the teacher's answers to its rows, and to the ``unseen`` ones.

    ``aims``: what it learns besides; its ``same`` is empty if no states were asked for.
    """

    answers: TeacherOutputs
    unseen: TeacherOutputs
    aims: Aims


class Distill(Inside, Keeping):
    """Train a smaller student on its teacher's answers, and perhaps on its hidden states.

    The student starts from some of the input's layers (DistilBERT, Sanh et al. 2019, arXiv
    1910.01108) or from another pretrained model. The loss is the sum of
    alpha · T² · KL(teacher ‖ student), with both softened by the temperature T (Hinton et al.
    2015, arXiv 1503.02531), and (1 − alpha) · cross-entropy with the labels, which is the mean over
    those rows of a batch that have one. With a ``hidden_weight``, the mean squared difference
    between the hidden states of each student's layer and of the teacher's layer at the same share
    of its depth is added (TinyBERT, Jiao et al. 2020, arXiv 1909.10351), through a learned
    projection if the widths differ, on rows that both split into the same tokens; relations of
    tokens and scores of attention likewise. The teacher also labels unlabelled text of the domain
    (data.unlabelled) and a transfer set. Its outputs are computed once and kept. The loss on the
    development split, for ``keep: best``, is of answers and labels as ``alpha`` weighs them at the
    end.

    Small students need longer training, a higher learning rate than the teacher and more text than
    the labelled rows.
    """

    name: ClassVar[str] = "distill"
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.CHECKPOINT})
    produces: ClassVar[Kind | None] = Kind.CHECKPOINT
    reads: ClassVar[frozenset[str]] = frozenset({"train", "dev", "unlabelled", "corpus"})
    libraries: ClassVar[tuple[str, ...]] = (*Training.libraries, "numpy")
    version: ClassVar[int] = 11
    needs: ClassVar[Mapping[str, Kind]] = {TRANSFER: Kind.TRANSFER_SET}

    layers: int | tuple[int, ...] | None = Field(
        default=None,
        description="layers of the input to keep: indices, or a number to spread evenly",
    )
    student: str | None = Field(default=None, description="pretrained model to start from instead")
    vocabulary: bool = Field(
        default=False,
        description="with student: first remove its tokens that the texts never use",
    )
    teacher: str | None = Field(
        default=None, description="id of an earlier stage; default: the input"
    )
    temperature: float = Field(
        default=2.0, gt=0, le=100, description="softens both models' answers"
    )
    alpha: ScheduledShare = Field(
        default=0.9,
        description="weight, or [first, last], of the teacher's answers; the rest is the labels'",
    )
    answer_loss: Literal["kl", "mse"] = Field(
        default="kl",
        description="of the teacher's answers: softened divergence, or squared difference",
    )
    dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="the student's dropout; soft answers already regularize",
    )
    activation: Literal["relu"] | None = Field(
        default=None,
        description="of the student's feed-forward layers, instead of its own: a ReLU takes less "
        "time than a GELU",
    )
    epochs: int = Field(default=6, ge=1, le=1000, description="passes over the rows")
    learning_rate: float = Field(
        default=1e-4, gt=0, lt=1, description="peak learning rate, after warm-up"
    )

    @model_validator(mode="after")
    def _has_a_student(self) -> Distill:
        if self.layers is not None and self.student is not None:
            raise ValueError("give either 'layers' of the input or a 'student' model, not both")
        if self.layers is None and self.student is None and self.teacher is None:
            raise ValueError("give 'layers' to keep, a 'student', or an earlier stage as 'teacher'")
        if (isinstance(self.layers, int) and self.layers < 1) or self.layers == ():
            raise ValueError("'layers' must keep at least one layer")
        if self.vocabulary and self.student is None:
            raise ValueError("'vocabulary' is of a 'student'; otherwise put 'prune' before")
        if self.answer_loss == "mse" and changed(self, ("temperature",)):
            raise ValueError("'temperature' is of 'answer_loss: kl'")
        return self

    def references(self) -> dict[str, str]:
        named = {"teacher": self.teacher, TRANSFER: self.transfer}
        return {role: name for role, name in named.items() if name}

    def check_task(self, task: type[Task]) -> None:
        """Raise RecipeError if ``temperature`` or ``alpha`` means nothing for a task."""
        check_answers(self, task, alone=not self.weighed)

    def check_named(self, stages: Mapping[str, Stage]) -> None:
        """Raise RecipeError if the transfer set has answers and something else is asked for."""
        if isinstance(stages.get(self.transfer or ""), Label):
            self.check_answers_only()

    def check_answers_only(self) -> None:
        """Raise RecipeError if states are asked for, or a teacher who has answered already.

        A teacher may be named where the input is the student.
        """
        super().check_answers_only()
        if self.teacher and (self.layers is not None or self.student is not None):
            raise RecipeError(
                f"teacher: {self.transfer!r} has the answers already, so {self.teacher!r} is not "
                "asked; remove it"
            )

    def files(self, base: Path) -> tuple[Path, ...]:
        """Return the config, weights and tokenizer of ``student``; empty if it is not given."""
        if self.student is None:
            return ()
        return _student(self.student, base).files

    def follow_model(self, config: Config, references: Mapping[str, Config], base: Path) -> Config:
        """Check that the layers that are asked for can be had; return the student's config."""
        from pipeline.model import parts

        teacher = references.get("teacher", config)
        if self.student is not None:
            config = _student(self.student, base).config
        self.check_described(config, teacher)
        self.check_widths(config, teacher)
        if self.activation is not None:
            need_parts(config, "activation", "leave it out")
        depth = parts.depth(config)
        if self.layers is not None:
            need_parts(config, "layers", "give a 'student' instead")
            if depth is not None:
                kept = choose_layers(self.layers, depth)
                parts.check_layers(config, kept)
                config = parts.shortened(config, len(kept))
        self.check_layers(parts.depth(config), parts.depth(teacher))
        return config

    def run(self, context: Context, model: Artifact) -> Draft:
        """Label all rows with the teacher, train the student, and save it without projections."""
        from pipeline.model import activation, checkpoint
        from stages import aims, vocabulary
        from stages import teacher as teaching
        from stages.aims import Aims

        training.prepare(context)
        student, tokenizer = self._open_student(context, model)
        if self.activation is not None:
            activation.replace(student, self.activation)
        artifact = context.artifacts[self.transfer] if self.transfer else None
        splits = transfer_set.learned(context, artifact)
        metrics: list[Metric] = []
        if self.vocabulary:
            tokenizer, unseen = vocabulary.prune(student, tokenizer, splits)
            metrics.append(unseen)
        rows = training.labelled_rows(context, tokenizer, *splits, numbered=True)
        held_out = self.judged_on(context)
        unseen = training.labelled_rows(context, tokenizer, *held_out, numbered=True)
        if transfer_set.has_answers(artifact):
            self.check_answers_only()
            known, seen = (
                teaching.known(context, artifact, *of)
                for of in ((splits, rows), (held_out, unseen))
            )
            lesson = Lesson(known, seen, Aims())
        else:
            lesson = self._ask(context, model, student, tokenizer, splits, rows, held_out)
        training.set_dropout(student, self.dropout)
        aims.project(student, lesson.aims)
        asked = [lesson.answers, lesson.unseen] if held_out else [lesson.answers]
        goals = teaching.goals(context, student, tokenizer, rows, *asked)

        def loss(answers: TeacherOutputs, inside: Aims, clock: Clock | None = None) -> Loss:
            return teaching.imitation(
                context.task,
                answers,
                alpha=self.alpha,
                temperature=self.temperature,
                squared=self.answer_loss == "mse",
                aims=inside,
                clock=clock,
            )

        judge = None
        if held_out:
            judge = training.mean_loss(context, tokenizer, unseen, loss(goals[1], Aims()))
        clock = Clock()
        aim = loss(goals[0], lesson.aims, clock)
        trained = training.train(
            context,
            self,
            student,
            tokenizer,
            rows,
            aim,
            clock=clock,
            judge=judge,
            patience=self.patience,
        )
        if hasattr(student, aims.PROJECTIONS):
            delattr(student, aims.PROJECTIONS)
        roles = checkpoint.save(student, tokenizer, context.output)
        metrics += [*trained.metrics(), Metric(name="rows", split="train", value=len(rows))]
        if lesson.aims.same:
            metrics.append(Metric(name="rows_split_alike", value=sum(lesson.aims.same)))
        return Draft(roles, checkpoint.describe(student), tuple(metrics))

    def _ask(
        self,
        context: Context,
        model: Artifact,
        student: Any,
        tokenizer: Any,
        splits: Sequence[Split],
        rows: Sequence[Row],
        held_out: Sequence[Split],
    ) -> Lesson:
        """Have the teacher answer all rows, those of ``held_out`` as well."""
        from stages import teacher as teaching
        from stages.aims import Aims

        artifact = context.artifacts[self.teacher] if self.teacher else model
        teacher, its = training.open_network(context, artifact)
        given = training.labelled_rows(context, its, *splits)
        same = same_tokens(tokenizer, rows, its, given) if self.weighed else []
        found = self.aims(student, teacher, any(same)) if self.weighed else []
        inside = Aims(found, same)
        answers = teaching.outputs(context, teacher, its, given, inside.theirs)
        given = training.labelled_rows(context, its, *held_out)
        unseen = teaching.outputs(context, teacher, its, given, folder="teacher-dev")
        return Lesson(answers, unseen, inside)

    def _open_student(self, context: Context, model: Artifact) -> tuple[Any, Any]:
        """Return the student before its training, and its tokenizer."""
        from pipeline.model import checkpoint, padding, pooling
        from stages import surgery

        if self.student is not None:
            found = _student(self.student, context.base)
            directory = found.directory
            student = training.with_head(context, directory)
            if found.pooling is not None:
                pooling.note(student.config, found.pooling)
            tokenizer = checkpoint.load_tokenizer(directory)
            checkpoint.leave_out_types(student.config, tokenizer)
            padding.note(student.config, tokenizer)
            return student, tokenizer
        student, tokenizer = training.open_network(context, model)
        if self.layers is not None:
            depth = len(checkpoint.encoder_layers(student))
            surgery.keep_layers(student, choose_layers(self.layers, depth))
        return student, tokenizer


def _student(reference: str, base: Path) -> Located:
    """Find a pretrained student. Raises ModelError if it cannot be found or used."""
    return locating.locate(reference, base, allow_pickle=False, key="distill.student")


def choose_layers(layers: int | Sequence[int], depth: int) -> tuple[int, ...]:
    """Return the layer indices as given, or that many, spread evenly from the first to the last.

    Raises ModelError if the model has no such layers.
    """
    if isinstance(layers, int):
        if layers > depth:
            raise ModelError(f"distill.layers: cannot keep {layers} layers, the model has {depth}")
        return tuple(at * (depth - 1) // max(layers - 1, 1) for at in range(layers))
    wrong = [layer for layer in layers if not 0 <= layer < depth]
    if wrong or list(layers) != sorted(set(layers)):
        raise ModelError(
            f"distill.layers: {list(layers)}: give indices from 0 to {depth - 1} in rising order"
        )
    return tuple(layers)
