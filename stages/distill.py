"""Distillation: train a smaller student to reproduce its teacher's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator

from pipeline.model.architectures.description import Config
from pipeline.model.shape import Shape
from pipeline.stage import Context, Draft
from pipeline.stage.resources import (
    PROCESS,
    TRANSFER,
    Resources,
    Span,
    Workload,
    upto,
    weights,
)
from pipeline.store.artifact import Artifact, Kind, Metric
from pipeline.terms.errors import ModelError
from stages import footprint, training, transfer_set
from stages.parameters import TEACHER_BATCH, Loss, Row, Training

if TYPE_CHECKING:
    from pipeline.stage.split import Split
    from stages.aims import Aim, Aims
    from stages.teacher import TeacherOutputs


TEXTS_ONLY = frozenset({TRANSFER})


class Lesson(NamedTuple):
    """What a student learns: the teacher's answers to its rows, and to the ``unseen`` ones.

    ``aims``: what it learns besides; its ``same`` is empty if no states were asked for.
    """

    answers: TeacherOutputs
    unseen: TeacherOutputs
    aims: Aims


class Distill(Training):
    """Train a smaller student on its teacher's answers and hidden states.

    The student starts from some of the input's layers (DistilBERT, Sanh et al. 2019, arXiv
    1910.01108) or from another pretrained model. The loss is the sum of three terms:
    alpha · T² · KL(teacher ‖ student), with both softened by the temperature T (Hinton et al.
    2015, arXiv 1503.02531); (1 − alpha) · cross-entropy with the labels; and the mean squared
    difference between the hidden states of each student's layer and of the teacher's layer at the
    same share of its depth (TinyBERT, Jiao et al. 2020, arXiv 1909.10351), through a learned
    projection if the widths differ, on rows that both split into the same tokens. The teacher also
    labels unlabelled text of the domain (data.unlabelled) and a transfer set. Its outputs are
    computed once and kept.

    Small students need longer training, a higher learning rate than the teacher and more text than
    the labelled rows.
    """

    name: ClassVar[str] = "distill"
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.CHECKPOINT})
    produces: ClassVar[Kind | None] = Kind.CHECKPOINT
    reads: ClassVar[frozenset[str]] = frozenset({"train", "dev", "unlabelled", "corpus"})
    libraries: ClassVar[tuple[str, ...]] = (*Training.libraries, "numpy")
    version: ClassVar[int] = 2
    needs: ClassVar[Mapping[str, Kind]] = {TRANSFER: Kind.TRANSFER_SET}

    layers: int | tuple[int, ...] | None = Field(
        None, description="layers of the input to keep: indices, or a number to spread evenly"
    )
    student: str | None = Field(None, description="pretrained model to start from instead")
    teacher: str | None = Field(None, description="id of an earlier stage; default: the input")
    transfer: str | None = Field(
        None, description="id of an augment or label stage, whose texts the teacher labels as well"
    )
    temperature: float = Field(2.0, gt=0, le=100)
    alpha: float = Field(0.9, ge=0, le=1, description="weight of the teacher's answers")
    answer_loss: Literal["kl", "mse"] = Field(
        "kl", description="of the teacher's answers: softened divergence, or squared difference"
    )
    hidden_weight: float | None = Field(
        None,
        ge=0,
        description="weight of the hidden states; default: 1 without a transfer set, 0 with one",
    )
    hidden_loss: Literal["mse", "cosine", "patience"] = Field(
        "mse", description="of hidden states: squared difference, angle, or that of the first token"
    )
    hidden_map: Literal["uniform", "last"] | tuple[tuple[int, int], ...] = Field(
        "uniform",
        description="each layer learns from the teacher's at the same share of the depth, or only "
        "the last from the last, or pairs of layers",
    )
    relation_weight: float = Field(
        0.0, ge=0, description="weight of the last layers' relations of tokens (MiniLM)"
    )
    attention_weight: float = Field(
        0.0, ge=0, description="weight of the last layers' scores of attention (TinyBERT)"
    )
    relation_heads: int = Field(12, ge=1, le=256, description="heads of relations and attention")
    keep: Literal["last", "best"] = Field(
        "last",
        description="the last weights, or those nearest to the teacher on the development split: "
        "of an epoch, or the average of the last three tenths of the steps",
    )
    patience: int | None = Field(
        None, ge=0, le=1000, description="with keep: best, epochs to wait for a better one"
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
        if self.patience is not None and self.keep == "last":
            raise ValueError("'patience' needs 'keep: best'")
        return self

    def references(self) -> dict[str, str]:
        named = {"teacher": self.teacher, TRANSFER: self.transfer}
        return {role: name for role, name in named.items() if name}

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
        weights = {
            "hidden_weight": self.hidden_weight,
            "relation_weight": self.relation_weight,
            "attention_weight": self.attention_weight,
        }
        for key in (key for key, weight in weights.items() if weight):
            for each in (config, teacher):
                _need_parts(each, key, "only the answers can be learned")
        depth = parts.depth(config)
        if self.layers is None:
            return config
        _need_parts(config, "layers", "give a 'student' instead")
        if depth is None:
            return config
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
        splits = self.reads | {TRANSFER}
        kept = self._states(student.layers)
        own = self.reads - {"dev"}
        states = footprint.hidden_states(work, own, kept, teacher.hidden)
        states += upto(footprint.hidden_states(work, TEXTS_ONLY, kept, teacher.hidden).most)
        if self.student is not None or self.teacher is not None:
            states = upto(states.most)
        logits = footprint.logits(work, own)
        logits += upto(footprint.logits(work, splits - own).most)
        trained = super().resources(replace(work, shape=student))
        length = work.longest_of(splits)
        answering = weights(teacher) + weights(student)
        answering += footprint.answering(teacher, TEACHER_BATCH, length)
        assert trained.disk is not None
        assert trained.memory is not None
        copies = weights(student, copies=2) if self.keep == "best" else Span()
        return Resources(
            # The rows as the teacher reads them; the student's are counted with its training.
            disk=trained.disk
            + upto(footprint.SAVED * copies.most)
            + states
            + logits
            + footprint.tokenized(work, splits),
            memory=(PROCESS + answering) | (trained.memory + copies),
            shape=student,
            effort=work.texts_of(splits) * (self.epochs * student.body + teacher.body),
        )

    def _states(self, layers: int) -> int:
        """Return how many states of the teacher are kept for each token."""
        maps = {"uniform": layers, "last": 1}
        pairs = maps[self.hidden_map] if isinstance(self.hidden_map, str) else len(self.hidden_map)
        inside = 3 if self.relation_weight or self.attention_weight else 0
        return (pairs if self._hidden_weight else 0) + inside

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
        from stages import aims
        from stages import teacher as teaching
        from stages.aims import Aims

        training.prepare(context)
        student, tokenizer = self._open_student(context, model)
        splits = self._splits(context)
        rows = training.labelled_rows(context, tokenizer, *splits, numbered=True)
        held_out = [context.split("dev")] if self.keep == "best" else []
        unseen = training.labelled_rows(context, tokenizer, *held_out, numbered=True)
        if self._answered(context):
            known, seen = (self._known(context, *of) for of in ((splits, rows), (held_out, unseen)))
            lesson = Lesson(known, seen, Aims())
        else:
            lesson = self._ask(context, model, student, tokenizer, splits, rows, held_out)
        training.set_dropout(student, self.dropout)
        aims.project(student, lesson.answers.width, lesson.aims)
        task, width = context.task, context.task.width_of(student)

        def loss(answers: TeacherOutputs, inside: Aims) -> Loss:
            return teaching.imitation(
                task,
                replace(answers, logits=task.goals(answers.logits, width)),
                alpha=self.alpha,
                temperature=self.temperature,
                squared=self.answer_loss == "mse",
                aims=inside,
            )

        judge = None
        if held_out:
            judge = training.mean_loss(context, tokenizer, unseen, loss(lesson.unseen, Aims()))
        aim = loss(lesson.answers, lesson.aims)
        trained = training.train(
            context, self, student, tokenizer, rows, aim, judge=judge, patience=self.patience
        )
        if hasattr(student, aims.PROJECTIONS):
            delattr(student, aims.PROJECTIONS)
        roles = checkpoint.save(student, tokenizer, context.output)
        metrics = [trained.metric(), Metric(name="rows", split="train", value=len(rows))]
        if trained.judged is not None:
            metrics.append(Metric(name="loss", split="dev", value=round(trained.judged, 6)))
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
        same = same_tokens(tokenizer, rows, its, given) if self._inside else []
        found = self._aims(student, teacher, any(same)) if self._inside else []
        inside = Aims(found, same)
        answers = teaching.outputs(context, teacher, its, given, inside.theirs)
        given = training.labelled_rows(context, its, *held_out)
        unseen = teaching.outputs(context, teacher, its, given, folder="teacher-dev")
        return Lesson(answers, unseen, inside)

    @property
    def _inside(self) -> bool:
        """Whether states inside the teacher are asked for."""
        return bool(self._hidden_weight or self.relation_weight or self.attention_weight)

    @property
    def _hidden_weight(self) -> float:
        if self.hidden_weight is not None:
            return self.hidden_weight
        return 0.0 if self.transfer else 1.0

    def _open_student(self, context: Context, model: Artifact) -> tuple[Any, Any]:
        """Return the student before its training, and its tokenizer."""
        from pipeline.model import checkpoint, pooling
        from pipeline.run import locating
        from stages import surgery

        if self.student is not None:
            found = locating.locate(self.student, context.base, allow_pickle=False)
            directory = found.directory
            student = training.with_head(context, directory)
            if found.pooling is not None:
                pooling.note(student.config, found.pooling)
            return student, checkpoint.load_tokenizer(directory)
        student, tokenizer = training.open_network(context, model)
        if self.layers is not None:
            depth = len(checkpoint.encoder_layers(student))
            surgery.keep_layers(student, choose_layers(self.layers, depth))
        return student, tokenizer

    def _splits(self, context: Context) -> list[Split]:
        splits = [context.split("train")]
        splits += [context.splits[n] for n in ("unlabelled", "corpus") if n in context.splits]
        if self.transfer:
            artifact = context.artifacts[self.transfer]
            if transfer_set.has_texts(artifact):
                splits.append(transfer_set.split(artifact, context.work))
        return splits

    def _answered(self, context: Context) -> bool:
        """Return whether the transfer set has the teachers' answers.

        Raises ModelError if hidden states are asked for, which it does not have.
        """
        if not self.transfer or not transfer_set.has_answers(context.artifacts[self.transfer]):
            return False
        if self._inside:
            raise ModelError(
                f"distill.hidden_weight: {self.transfer!r} has the teachers' answers without their "
                "hidden states; name the augment stage as transfer, or remove hidden_weight"
            )
        return True

    def _known(
        self, context: Context, splits: Sequence[Split], rows: Sequence[Row]
    ) -> TeacherOutputs:
        """Return the answers that the transfer set has for the rows of splits."""
        from stages import teacher as teaching

        found = transfer_set.answers(context.artifacts[str(self.transfer)])
        return teaching.given(context.task, [found[split.name] for split in splits], rows)

    def _aims(self, student: Any, teacher: Any, same: bool) -> list[Aim]:
        """Return what the student learns besides the answers.

        Nothing if the parts of either are not described, or if no row is split alike (not ``same``)
        and nothing was asked for by name. Raises ModelError if it was.
        """
        from pipeline.model import checkpoint
        from pipeline.model.architectures import ARCHITECTURES
        from stages import aims

        named = bool(self.hidden_weight or self.relation_weight or self.attention_weight)
        if not same and named:
            raise ModelError(
                "distill.hidden_weight: the tokenizers of teacher and student split every row "
                "differently, so their states cannot be compared; remove the weight"
            )
        models = (student, teacher)
        if not same or any(each.config.model_type not in ARCHITECTURES for each in models):
            return []
        depth, other = (len(checkpoint.encoder_layers(each)) for each in models)
        found: list[Aim] = []
        if self._hidden_weight:
            widths = (student.config.hidden_size, teacher.config.hidden_size)
            pairs = self._pairs(depth, other)
            found += aims.of_hidden(pairs, self._hidden_weight, self.hidden_loss, widths)
        last, heads = (depth - 1, other - 1), self.relation_heads
        if self.relation_weight or self.attention_weight:
            for each in models:
                if each.config.hidden_size % heads:
                    raise ModelError(
                        f"distill.relation_heads: {heads} heads do not divide a width of "
                        f"{each.config.hidden_size}"
                    )
        if self.relation_weight:
            found.append(aims.of_relations(*last, self.relation_weight, heads))
        if self.attention_weight:
            found.append(aims.of_attention(*last, self.attention_weight, heads))
        return found

    def _pairs(self, depth: int, other: int) -> list[tuple[int, int]]:
        """Return pairs (student's layer, teacher's layer) whose outputs should agree.

        Raises ModelError if one of those that were given does not exist.
        """
        if self.hidden_map == "last":
            return [(depth - 1, other - 1)]
        if self.hidden_map == "uniform":
            return layer_pairs(depth, other)
        pairs = list(self.hidden_map)
        if wrong := [each for each in pairs if not (0 <= each[0] < depth and 0 <= each[1] < other)]:
            raise ModelError(
                f"distill.hidden_map: {list(wrong[0])}: the student has layers 0 to {depth - 1}, "
                f"the teacher 0 to {other - 1}"
            )
        return pairs


def _need_parts(config: Config, key: str, otherwise: str) -> None:
    from pipeline.model import parts

    try:
        parts.named(config)
    except ModelError as error:
        raise ModelError(f"distill.{key}: {error}; {otherwise}") from error


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


def layer_pairs(depth: int, teacher_depth: int) -> list[tuple[int, int]]:
    """Return (layer, teacher's layer) for every layer, both at the same share of their depths.

    Layer l of L learns from the teacher's layer ⌈l · N / L⌉ of N, counted from 1 (TinyBERT, Jiao et
    al. 2020, arXiv 1909.10351, §3.1). The last always learns from the last.
    """
    return [(layer, -(-(layer + 1) * teacher_depth // depth) - 1) for layer in range(depth)]


def same_tokens(
    tokenizer: Any, rows: Sequence[Row], other: Any, other_rows: Sequence[Row]
) -> list[bool]:
    """Return for each row whether two tokenizers split it into the same tokens; ids may differ.

    If they split texts into different numbers of rows, no row is the same.
    """
    if len(rows) != len(other_rows):
        return [False] * len(rows)
    same_ids = tokenizer.get_vocab() == other.get_vocab()
    special, other_special = set(tokenizer.all_special_ids), set(other.all_special_ids)

    def names(of: Any, ids: list[int], hidden: set[int]) -> list[str | None]:
        tokens = of.convert_ids_to_tokens(ids)
        return [None if i in hidden else token for i, token in zip(ids, tokens, strict=True)]

    def alike(row: Row, other_row: Row) -> bool:
        ids, other_ids = row["input_ids"], other_row["input_ids"]
        if same_ids and ids == other_ids:
            return True
        return names(tokenizer, ids, special) == names(other, other_ids, other_special)

    return [alike(row, other_row) for row, other_row in zip(rows, other_rows, strict=True)]
