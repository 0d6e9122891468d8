"""Labelling: teachers answer the training rows and a transfer set once, for many students."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.measure import machine
from pipeline.stage import Asked, Context, Draft, Stage
from pipeline.stage.resources import (
    PROCESS,
    TEXTS,
    TRANSFER,
    Resources,
    Span,
    Workload,
    upto,
    weights,
)
from pipeline.stage.split import Split
from pipeline.stage.tasks import Task
from pipeline.store.artifact import Artifact, Kind, Metric
from pipeline.terms.errors import ModelError, RecipeError
from pipeline.terms.vocabulary import Target
from stages import footprint, training, transfer_set
from stages.parameters import EXPORTING, TEACHER_BATCH, cpu_has_bf16

log = logging.getLogger(__name__)

MANY = 20_000
"""Rows from which an export pays, which takes half a minute."""
NEAR = 0.01
"""The most divergence of the int8 export's answers from the float export's: nats, of labels."""
ANSWERS = "answers"
"""Name of the reference to the stage whose answers join."""


class Label(transfer_set.Answering):
    """Answer the training rows, and those of a transfer set, with one teacher or several.

    The answers are kept in fp16, so that every later student learns from them without the teacher
    (distill: transfer). Many rows are answered by the teacher's own int8 export, one process for
    each thread, if it is near the float model on the development split, and else by its fp32
    export. Several teachers' raw outputs, e.g. logits, are averaged: an ensemble (Hinton et al.
    2015, arXiv 1503.02531). Texts of the transfer set that they are unsure of can be left out.

    The next stage goes on from this one's input.
    """

    name: ClassVar[str] = "label"
    version: ClassVar[int] = 7
    produces: ClassVar[Kind | None] = Kind.TRANSFER_SET
    reads: ClassVar[frozenset[str]] = frozenset({"train", "dev", "unlabelled", "corpus"})
    libraries: ClassVar[tuple[str, ...]] = EXPORTING
    aside: ClassVar[bool] = True
    seeded: ClassVar[bool] = False
    needs: ClassVar[Mapping[str, Kind]] = {
        TRANSFER: Kind.TRANSFER_SET,
        ANSWERS: Kind.TRANSFER_SET,
    }

    teachers: tuple[str, ...] = Field(
        default=(), description="ids of earlier stages that answer together with the input"
    )
    answers: str | None = Field(
        default=None,
        description="id of an earlier label stage with the same texts or more, whose answers join "
        "the mean as one teacher's, without asking again",
    )
    engine: Literal["auto", "pytorch", "int8", "float"] = Field(
        default="auto",
        description="int8, float: the teacher's own export in a process for each thread, if its "
        "answers are near; auto: int8 or else float, on a CPU and for many rows",
    )
    confidence: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="the least probability of the answer to a text that is kept",
    )

    @model_validator(mode="after")
    def _has_texts_to_leave_out(self) -> Label:
        if self.confidence and not self.transfer:
            raise ValueError("'confidence' leaves out texts of a transfer set: give 'transfer'")
        return self

    def references(self) -> dict[str, str]:
        named = {f"teacher:{name}": name for name in self.teachers}
        kept = {TRANSFER: self.transfer, ANSWERS: self.answers}
        return named | {role: name for role, name in kept.items() if name}

    def check_task(self, task: type[Task]) -> None:
        """Raise RecipeError if answers have no probability to compare, or no export can answer."""
        if self.confidence and task.linear != "classes":
            raise RecipeError(f"confidence: an answer of {task.name} is not one probable label")
        if self.engine in ("int8", "float") and task.linear is None:
            raise RecipeError(
                f"engine: {self.engine} is for labels and scores of rows, not for {task.name}; "
                "write auto or pytorch"
            )
        if (self.teachers or self.answers) and task.body_only:
            raise RecipeError(f"teachers: the answers of {task.name} have no mean")

    def check_named(self, stages: Mapping[str, Stage]) -> None:
        """Raise RecipeError if an earlier stage has no texts, or no answers to the same texts."""
        transfer_set.check_texts(stages, self.transfer)
        if not self.answers:
            return
        earlier = stages[self.answers]
        if not isinstance(earlier, Label):
            raise RecipeError(f"answers: {self.answers!r} has no answers; name a label stage")
        if self.transfer and not earlier.transfer:
            raise RecipeError(
                f"answers: {self.answers!r} has none to the texts of {self.transfer!r}; give it "
                f"'transfer: {self.transfer}' as well"
            )
        if earlier.transfer and not self.transfer:
            raise RecipeError(
                f"answers: {self.answers!r} has some to the texts of {earlier.transfer!r}; write "
                f"'transfer: {self.answers}' here as well"
            )
        if self.transfer:
            check_answered(stages, self.transfer, self.answers)

    def environment(self, asked: Asked) -> dict[str, Any]:
        """Return whether the CPU has bfloat16, in which the teachers then answer."""
        return {"cpu_bf16": cpu_has_bf16()}

    def resources(self, work: Workload) -> Resources:
        """Return the resources for the answers, and in memory a teacher's forward pass.

        Disk: the logits, three times if there are shards of them, the tokenized rows, and each
        teacher's exports if they answer. Memory: also means, probabilities and what is kept.
        """
        splits = self.reads | {TRANSFER}
        length = work.longest_of(splits)
        logits = footprint.logits(work, splits)
        disk = logits + upto(2 * logits.most) + footprint.tokenized(work, splits)
        teachers = [work.shape, *(work.references.get(name, work.shape) for name in self.teachers)]
        exports = sum((footprint.exports(each, compared=True) for each in teachers), Span())
        if self.engine in ("int8", "float"):
            disk += exports
        elif self.engine == "auto" and work.rows_of(splits) >= MANY:
            disk += upto(exports.most)
        return Resources(
            disk=disk,
            memory=PROCESS
            + weights(work.shape)
            + footprint.answering(work.shape, TEACHER_BATCH, length)
            + upto(3 * logits.most)
            + upto(machine.usable() * (PROCESS.least + weights(work.shape).most)),
            texts=work.rows.get(TRANSFER),
            effort=float(work.texts_of(splits) * work.shape.body * (1 + len(self.teachers))),
        )

    def run(self, context: Context, model: Artifact) -> Draft:
        """Write the texts that are kept, and the answers to them and to the recipe's rows.

        Raises DataError if the transfer set has no texts, ModelError if ``answers`` are to others.
        """
        splits = [context.splits[name] for name in sorted(self.reads & context.splits.keys())]
        if self.transfer:
            made = transfer_set.named(context, self.transfer)
            splits.append(made)
        places = self._places(context.artifacts, splits) if self.answers else None
        teachers = {model.digest: model}
        teachers |= {t.digest: t for t in (context.artifacts[name] for name in self.teachers)}
        found, divergences = self._answered(context, list(teachers.values()), splits)
        if self.answers:
            self._join(found, len(teachers), context.artifacts, places)
        kept = self._sure(context.task, found.get(TRANSFER))
        roles: dict[str, str] = {}
        metrics = [Metric(name="rows", value=sum(map(len, splits)))]
        if divergences:
            most = round(max(divergences), 6)
            metrics.append(Metric(name="export_divergence", split="dev", value=most))
        facts: dict[str, Any] = {}
        if self.transfer:
            if kept is not None:
                found[TRANSFER] = found[TRANSFER][kept]
                metrics.append(Metric(name="unsure", value=len(made) - len(kept)))
            rows = range(len(made)) if kept is None else kept
            pairs = made.pairs
            texts = ((made.texts[row], pairs[row] if pairs else None) for row in rows)
            roles = transfer_set.write(context.output, texts)
            facts = {TEXTS: len(rows)}
        roles |= transfer_set.write_answers(context.output, found)
        return Draft(roles, facts, tuple(metrics))

    def _answered(
        self, context: Context, teachers: list[Artifact], splits: list[Split]
    ) -> tuple[dict[str, Any], list[float]]:
        """Return split -> the mean of the teachers' raw outputs: units × width.

        And how far the answers of each teacher's export are from its own, where one answered.
        """
        import torch

        from stages import shards
        from stages import teacher as teaching

        training.prepare(context)
        found: dict[str, Any] = {}
        divergences = []
        for artifact in teachers:
            network, tokenizer = training.open_network(context, artifact)
            bundle, divergence = self._bundle(context, network, tokenizer, artifact, splits)
            if divergence is not None:
                divergences.append(divergence)
            for split in splits:
                folder = f"{artifact.short}-{split.name}"
                if bundle is not None:
                    work = context.work / folder
                    outputs = shards.answered(
                        bundle, split, work, context.threads, context.progress
                    )
                    given = torch.from_numpy(outputs)
                else:
                    rows = training.labelled_rows(context, tokenizer, split)
                    given = teaching.outputs(
                        context, network, tokenizer, rows, folder=folder
                    ).logits
                if found.get(split.name, given).shape != given.shape:
                    raise ModelError(
                        f"label.teachers: {artifact.short} gives outputs of another shape, "
                        "which have no mean"
                    )
                share = given / len(teachers) if len(teachers) > 1 else given
                found[split.name] = found[split.name] + share if split.name in found else share
        return found, divergences

    def _places(
        self, artifacts: Mapping[str, Artifact], splits: Sequence[Split]
    ) -> list[int] | None:
        """Return which of the earlier stage's texts the transfer set has; None if all.

        Raises ModelError if its answers are to other splits or texts.
        """
        earlier, texts = artifacts[str(self.answers)], artifacts.get(str(self.transfer))
        same = transfer_set.answers(earlier).keys() == {split.name for split in splits}
        if same and (texts is None or transfer_set.same_texts(earlier, texts)):
            return None
        places = transfer_set.places(texts, earlier) if same and texts else None
        if places is None:
            raise ModelError(f"label.answers: {self.answers!r} has answers to other texts")
        return places

    def _join(
        self,
        found: dict[str, Any],
        teachers: int,
        artifacts: Mapping[str, Artifact],
        places: list[int] | None,
    ) -> None:
        """Add an earlier stage's answers to the mean, in place. Raises ModelError if they differ.

        ``teachers``: how many answers the mean is of; ``places``: which of the earlier stage's
        texts are answered, None if all.
        """
        known = transfer_set.answers(artifacts[str(self.answers)])
        if places is not None:
            known[TRANSFER] = known[TRANSFER][places]
        if any(known[name].shape != each.shape for name, each in found.items()):
            raise ModelError(
                f"label.answers: {self.answers!r} has other outputs, or answers to other rows"
            )
        for name, each in found.items():
            found[name] = (each * teachers + known[name]) / (teachers + 1)

    def _bundle(
        self,
        context: Context,
        network: Any,
        tokenizer: Any,
        artifact: Artifact,
        splits: list[Split],
    ) -> tuple[Path | None, float | None]:
        """Return the export that is to answer, None if PyTorch is, and its divergence if measured.

        Raises ModelError if one was asked for but its answers are not near, or the task's units are
        not its rows.
        """
        from stages.finalists import Finalists
        from stages.shard_worker import TOGETHER

        task, many = context.task, sum(map(len, splits)) >= MANY
        able = task.linear is not None and not task.windows and context.device == "cpu"
        if self.engine == "pytorch" or (self.engine == "auto" and not (able and many)):
            return None, None
        if not able:
            why = (
                "an export reads long texts in windows, but a teacher reads their beginning"
                if task.windows
                else "it is for labels and scores of rows, on a CPU"
            )
            raise ModelError(f"label.engine: {self.engine}: {why}; write auto or pytorch")
        if hasattr(network, "merge_and_unload"):  # an adapter has no export of its own
            network = copy.deepcopy(network).merge_and_unload(safe_merge=True).eval()
        own = replace(
            context,
            work=context.work / f"{artifact.short}-export",
            asked=Asked(targets=(Target(),)),
        )
        finalists = Finalists(own, network, tokenizer, together=TOGETHER)
        if self.engine != "float":
            problem = ModelError("")
            try:
                for bundle in finalists.int8():
                    damage = finalists.damage(bundle)
                    if damage <= NEAR:
                        return bundle, damage
                    problem = ModelError(
                        f"label.engine: the int8 export's answers to dev differ by {damage:.3g}, "
                        f"more than {NEAR:g}; use float"
                    )
            except ModelError as error:  # no export, or its answers are far from PyTorch's
                problem = error
            if self.engine == "int8":
                raise problem
            log.warning("%s; the float export answers instead, which takes longer", problem)
        try:
            return finalists.build(None), None  # compared with PyTorch as every export is
        except ModelError as error:
            if self.engine == "float":
                raise
            log.warning("%s; PyTorch answers instead, which takes longer", error)
        return None, None

    def _sure(self, task: Task, outputs: Any) -> list[int] | None:
        """Return the rows of the transfer set that are kept; None if all are.

        Raises ModelError if none is.
        """
        if outputs is None or not self.confidence:
            return None
        sure = task.answers(outputs.numpy()).max(axis=1) >= self.confidence
        if not sure.any():
            raise ModelError(
                f"label.confidence: no text has an answer of {self.confidence:g} or more"
            )
        return [int(row) for row in sure.nonzero()[0]]


def check_answered(stages: Mapping[str, Stage], transfer: str, answers: str) -> None:
    """Raise RecipeError if not all texts of a transfer set have answers in an earlier label stage.

    A label stage has the texts of its own transfer set, or with ``confidence`` some of them.
    """
    origin = answers
    while isinstance(stage := stages[origin], Label) and stage.transfer and not stage.confidence:
        origin = stage.transfer
    source = transfer
    while source != origin and isinstance(stage := stages[source], Label) and stage.transfer:
        source = stage.transfer
    if source == origin:
        return
    if isinstance(stages[origin], Label):
        raise RecipeError(
            f"answers: {answers!r} kept only the texts that the 'confidence' of {origin!r} let "
            f"pass; give 'transfer: {answers}' as well"
        )
    raise RecipeError(
        f"answers: {answers!r} has answers to the texts of {origin!r}, and none to those of "
        f"{transfer!r}; write 'transfer: {answers}'"
    )
