"""Distillation: train a smaller student to reproduce its teacher's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from pipeline.model.architectures.description import Config
from pipeline.model.shape import Shape
from pipeline.stage import Context, Draft
from pipeline.stage.resources import PROCESS, Resources, Span, Workload, upto, weights
from pipeline.store.artifact import Artifact, Kind, Metric
from pipeline.terms.errors import ModelError
from stages import footprint, training
from stages.parameters import TEACHER_BATCH, Row, Training

if TYPE_CHECKING:
    from stages.rows import Rows


class Distill(Training):
    """Train a smaller student on its teacher's answers and hidden states.

    The student starts from some of the input's layers (DistilBERT, Sanh et al. 2019, arXiv
    1910.01108) or from another pretrained model. The loss is the sum of three terms:
    alpha · T² · KL(teacher ‖ student), with both softened by the temperature T (Hinton et al.
    2015, arXiv 1503.02531); (1 − alpha) · cross-entropy with the labels; and the mean squared
    difference between the hidden states of mapped layers (TinyBERT, Jiao et al. 2020, arXiv
    1909.10351), through a learned projection if the widths differ. The teacher also labels
    unlabelled text of the domain (data.unlabelled). Its outputs are computed once and kept.

    Small students need longer training and a higher learning rate than the teacher.
    """

    name: ClassVar[str] = "distill"
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.CHECKPOINT})
    produces: ClassVar[Kind | None] = Kind.CHECKPOINT
    reads: ClassVar[frozenset[str]] = frozenset({"train", "unlabelled", "corpus"})
    libraries: ClassVar[tuple[str, ...]] = (*Training.libraries, "numpy")

    layers: int | tuple[int, ...] | None = Field(
        None, description="layers of the input to keep: indices, or a number to spread evenly"
    )
    student: str | None = Field(None, description="pretrained model to start from instead")
    teacher: str | None = Field(None, description="id of an earlier stage; default: the input")
    temperature: float = Field(2.0, gt=0, le=100)
    alpha: float = Field(0.9, ge=0, le=1, description="weight of the teacher's answers")
    hidden_weight: float | None = Field(
        None, ge=0, description="weight of the hidden states; default: 1 if tokens are the same"
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description="the student's dropout; soft answers already regularize"
    )
    epochs: int = Field(6, ge=1, le=1000, description="passes over the rows")
    learning_rate: float = Field(1e-4, gt=0, lt=1, description="peak learning rate, after warm-up")

    @model_validator(mode="after")
    def _has_a_student(self) -> Distill:
        if self.layers is not None and self.student is not None:
            raise ValueError("give either 'layers' of the input or a 'student' model, not both")
        if self.layers is None and self.student is None and self.teacher is None:
            raise ValueError("give 'layers' to keep, a 'student', or an earlier stage as 'teacher'")
        if (isinstance(self.layers, int) and self.layers < 1) or self.layers == ():
            raise ValueError("'layers' must keep at least one layer")
        return self

    def references(self) -> dict[str, str]:
        return {"teacher": self.teacher} if self.teacher else {}

    def files(self, base: Path) -> tuple[Path, ...]:
        """Return the config, weights and tokenizer of ``student``; empty if it is not given."""
        from pipeline.run import locating

        if self.student is None:
            return ()
        return locating.locate(self.student, base, allow_pickle=False).files

    def follow_model(self, config: Config, references: Mapping[str, Config], base: Path) -> Config:
        """Check that the layers that are asked for can be had; return the student's config."""
        from pipeline.model import parts
        from pipeline.run import locating

        teacher = references.get("teacher", config)
        if self.student is not None:
            config = locating.locate(self.student, base, allow_pickle=False).config
        if self.hidden_weight:
            for each in (config, teacher):
                _need_parts(each, "hidden_weight", "only the answers can be learned")
        depth = parts.depth(config)
        if self.layers is None or depth is None:
            return config
        _need_parts(config, "layers", "give a 'student' instead")
        kept = choose_layers(self.layers, depth)
        parts.check_layers(config, kept)
        return parts.shortened(config, len(kept))

    def resources(self, work: Workload) -> Resources:
        """Return the larger of what the teacher's pass and the student's training need.

        Disk: the teacher's hidden states (tokens × the student's layers × the teacher's width, two
        bytes each) and logits, and what the student's training writes. If ``student`` has a
        tokenizer that splits text differently, no hidden states are kept.
        """
        teacher = work.references.get(self.teacher, work.shape) if self.teacher else work.shape
        student = self._shape(work)
        if student is None:
            return Resources()
        states = footprint.hidden_states(work, self.reads, student.layers, teacher.hidden)
        if self.hidden_weight == 0:
            states = Span()
        elif self.student is not None or self.teacher is not None:
            states = upto(states.most)
        trained = super().resources(replace(work, shape=student))
        length = work.longest_of(self.reads)
        answering = weights(teacher) + weights(student)
        answering += footprint.answering(teacher, TEACHER_BATCH, length)
        assert trained.disk is not None
        assert trained.memory is not None
        return Resources(
            # The rows as the teacher reads them; the student's are counted with its training.
            disk=trained.disk
            + states
            + footprint.logits(work, self.reads)
            + footprint.tokenized(work, self.reads),
            memory=(PROCESS + answering) | trained.memory,
            shape=student,
            effort=work.texts_of(self.reads) * (self.epochs * student.body + teacher.body),
        )

    def _shape(self, work: Workload) -> Shape | None:
        """Return the shape of ``student``, or the input's shape with the layers that are kept."""
        if self.student is not None:
            from pipeline.model import shape
            from pipeline.run import locating

            found = locating.locate(self.student, work.base, allow_pickle=False)
            return shape.of_directory(found.directory, found.files)
        depth = work.shape.layers
        kept = depth if self.layers is None else self.layers
        count = kept if isinstance(kept, int) else len(kept)
        return work.shape.with_layers(min(count, depth))

    def run(self, context: Context, model: Artifact) -> Draft:
        """Label all rows with the teacher, train the student, and save it without projections."""
        from pipeline.model import checkpoint
        from stages import teacher as teaching

        training.prepare(context)
        student, tokenizer, taken = self._open_student(context, model)
        artifact = context.artifacts[self.teacher] if self.teacher else model
        teacher, teacher_tokenizer = training.open_network(context, artifact)
        rows = self._rows(context, tokenizer)
        teacher_rows = self._rows(context, teacher_tokenizer)
        pairs = self._pairs(student, teacher, taken)
        weight = self._weight(same_tokens(tokenizer, rows, teacher_tokenizer, teacher_rows))
        if not weight:
            pairs = []
        teacher_layers = [layer for _, layer in pairs]
        answers = teaching.outputs(
            context, teacher, teacher_tokenizer, teacher_rows, teacher_layers
        )
        goals = context.task.goals(answers.logits, context.task.width_of(student))
        answers = replace(answers, logits=goals)
        loss = teaching.imitation(
            context.task,
            answers,
            alpha=self.alpha,
            temperature=self.temperature,
            hidden_weight=weight,
            layers=[layer for layer, _ in pairs],
        )
        training.set_dropout(student, self.dropout)
        _project(student, teacher.config.hidden_size, len(pairs))
        del teacher
        trained = training.train(context, self, student, tokenizer, rows, loss)
        if hasattr(student, PROJECTIONS):
            delattr(student, PROJECTIONS)
        roles = checkpoint.save(student, tokenizer, context.output)
        metrics = (trained.metric(), Metric(name="rows", split="train", value=len(rows)))
        return Draft(roles, checkpoint.describe(student), metrics)

    def _open_student(
        self, context: Context, model: Artifact
    ) -> tuple[Any, Any, tuple[int, ...] | None]:
        """Return the student, its tokenizer, and the input's layers it is built from (or None)."""
        from pipeline.model import checkpoint, pooling
        from pipeline.run import locating
        from stages import surgery

        if self.student is not None:
            found = locating.locate(self.student, context.base, allow_pickle=False)
            directory = found.directory
            student = training.with_head(context, directory)
            if found.pooling is not None:
                pooling.note(student.config, found.pooling)
            return student, checkpoint.load_tokenizer(directory), None
        student, tokenizer = training.open_network(context, model)
        if self.layers is None:
            return student, tokenizer, None
        depth = len(checkpoint.encoder_layers(student))
        taken = choose_layers(self.layers, depth)
        surgery.keep_layers(student, taken)
        return student, tokenizer, taken

    def _rows(self, context: Context, tokenizer: Any) -> Rows:
        splits = [context.split("train")]
        splits += [context.splits[n] for n in ("unlabelled", "corpus") if n in context.splits]
        return training.labelled_rows(context, tokenizer, *splits, numbered=True)

    def _pairs(
        self, student: Any, teacher: Any, taken: tuple[int, ...] | None
    ) -> list[tuple[int, int]]:
        """Return pairs (student's layer, teacher's layer) whose outputs should agree.

        There are none if the layers of either are not described.
        """
        from pipeline.model import checkpoint
        from pipeline.model.architectures import ARCHITECTURES

        if any(network.config.model_type not in ARCHITECTURES for network in (student, teacher)):
            return []
        if taken is not None and self.teacher is None:
            return list(enumerate(taken))
        depth, teacher_depth = (
            len(checkpoint.encoder_layers(network)) for network in (student, teacher)
        )
        return [(layer, -(-(layer + 1) * teacher_depth // depth) - 1) for layer in range(depth)]

    def _weight(self, same: bool) -> float:
        if same:
            return 1.0 if self.hidden_weight is None else self.hidden_weight
        if self.hidden_weight:
            raise ModelError(
                "distill.hidden_weight: the tokenizers of teacher and student split text "
                "differently, so their hidden states cannot be compared; remove hidden_weight"
            )
        return 0.0


def _need_parts(config: Config, key: str, otherwise: str) -> None:
    from pipeline.model import parts

    try:
        parts.named(config)
    except ModelError as error:
        raise ModelError(f"distill.{key}: {error}; {otherwise}") from error


PROJECTIONS = "distillation_projections"


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


def same_tokens(tokenizer: Any, rows: Sequence[Row], other: Any, other_rows: Sequence[Row]) -> bool:
    """Return True if two tokenizers split every row into the same tokens; ids may differ."""
    same_ids = tokenizer.get_vocab() == other.get_vocab()
    special, other_special = set(tokenizer.all_special_ids), set(other.all_special_ids)

    def names(of: Any, ids: list[int], hidden: set[int]) -> list[str | None]:
        tokens = of.convert_ids_to_tokens(ids)
        return [None if i in hidden else token for i, token in zip(ids, tokens, strict=True)]

    for row, other_row in zip(rows, other_rows, strict=True):
        ids, other_ids = row["input_ids"], other_row["input_ids"]
        if same_ids and ids == other_ids:
            continue
        if names(tokenizer, ids, special) != names(other, other_ids, other_special):
            return False
    return True


def _project(student: Any, width: int, count: int) -> None:
    """Attach projections to the teacher's width if it differs; they train with the student."""
    from torch import nn

    own = student.config.hidden_size
    if count and own != width:
        projections = nn.ModuleList(nn.Linear(own, width) for _ in range(count))
        student.add_module(PROJECTIONS, projections)
