"""Augmentation: make a transfer set, texts that a teacher labels and a student learns from."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from rarefy.pipeline.data import table as table_file
from rarefy.pipeline.data.split import Split, Texts
from rarefy.pipeline.data.table import Source
from rarefy.pipeline.sources import references
from rarefy.pipeline.stage import Context, Draft, Policy, Stage
from rarefy.pipeline.store.artifact import Artifact, Kind, Metric
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.terms.digests import file_sha256
from rarefy.pipeline.terms.errors import DataError
from rarefy.pipeline.terms.recipe_parts import Part
from rarefy.stages.training.parameters import refuse_unread
from rarefy.stages.transfer import files as transfer_set
from rarefy.stages.transfer.files import TEXTS, Pair

if TYPE_CHECKING:
    from rarefy.stages.transfer.novelty import Novel

Variant = tuple[str, Pair]
"""How a row was made, and the row."""


class TextFile(Part):
    """A file with unlabelled rows of the recipe's text columns."""

    file: str = Field(description="Path or reference of the file, as in data")
    rows: int | None = Field(default=None, ge=1, description="Number of rows to take; default: all")
    choose: Literal["nearest", "random"] = Field(
        default="nearest",
        description="Selection of `rows` rows: those most similar to the training rows, or "
        "random ones",
    )

    @model_validator(mode="after")
    def _chooses_some(self) -> TextFile:
        refuse_unread(self, ("choose",), "rows")
        return self


class Augment(Stage):
    """Make a transfer set: more texts for a student, which a teacher labels (distill: transfer).

    A small labelled set starves a student, but its teacher can label any text (the transfer set of
    Hinton et al. 2015, arXiv 1503.02531). The texts are clauses and random spans of the training
    rows, clauses of two rows joined, and files of unlabelled text (Mukherjee & Awadallah 2019,
    arXiv 1910.01769), from which those that are most similar to the training rows can be chosen. In
    a pair of texts, one is cut and the other stays. A row that also occurs in train, dev or eval,
    regardless of case, punctuation and order, is left out and counted, as are duplicates. For
    sentence-embeddings, which reads each text of a pair alone, a row with one text of dev or eval
    is also left out.

    The next stage receives the same input as this stage.
    """

    name: ClassVar[str] = "augment"
    version: ClassVar[int] = 4
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.ENCODER, Kind.CHECKPOINT, Kind.ADAPTER})
    produces: ClassVar[Kind | None] = Kind.TRANSFER_SET
    reads: ClassVar[frozenset[str]] = frozenset({"train", "dev", "eval"})
    libraries: ClassVar[tuple[str, ...]] = ()
    policy: ClassVar[Policy] = Policy(aside=True, reads_input=False)

    spans: int = Field(
        default=5, ge=0, le=1000, description="Number of random spans of 2 to 14 words per row"
    )
    clauses: bool = Field(
        default=True, description="Whether to split rows at punctuation and English conjunctions"
    )
    splices: int = Field(
        default=2,
        ge=0,
        le=1000,
        description="Number of splices per clause: the clause joined to one of another row",
    )
    max_texts: int = Field(
        default=100_000, ge=1, description="Maximum number of texts made from the training rows"
    )
    texts: tuple[TextFile, ...] = Field(default=(), description="Files of unlabelled text to add")

    @model_validator(mode="after")
    def _makes_something(self) -> Augment:
        numbers = (self.spans, self.clauses, self.splices)
        if not (any(numbers) or self.texts):
            raise ValueError("nothing to make: give 'spans', 'clauses', 'splices' or 'texts'")
        return self

    def files(self, base: Path) -> tuple[Path, ...]:
        """Return the files of unlabelled text.

        Raises DataError if one is missing, empty or of an unknown format.
        """
        paths = [references.data_file(text.file, base, "augment.texts") for text in self.texts]
        for path, text in zip(paths, self.texts, strict=True):
            source = Source("unlabelled", text.file, path, sha256="")
            table_file.check(source)
        return tuple(paths)

    def run(self, context: Context, model: Artifact) -> Draft:
        """Write the new rows, each once; report how many of each kind, and how many were not new.

        Raises DataError if there is none.
        """
        from rarefy.stages.transfer.novelty import Novel

        new = Novel(context.splits, singly=context.task.reader.singly)
        roles = transfer_set.write(context.output, self._rows(context, new))
        if not len(new):
            raise DataError(
                "augment: no new text: the rows are too short to cut, or all texts are duplicates"
            )
        metrics = [Metric(name="texts", value=len(new))]
        for name, count in sorted(new.counts.items()):
            metrics.append(Metric(name=name, value=count))
        return Draft(roles, {TEXTS: len(new)}, tuple(metrics))

    def _rows(self, context: Context, new: Novel) -> Iterator[Pair]:
        """Yield new rows: those of files, then of train."""
        for path, text in zip(self.files(context.base), self.texts, strict=True):
            rows = self._from_file(context, path, text, new)
            yield from islice(rows, text.rows)
        left = sum(1 for _ in self._variants(context, "counting texts"))
        missing = self.max_texts
        draw = random.Random(f"{context.seed} most")  # noqa: S311
        for how, row in self._variants(context, "cutting texts"):
            if draw.random() * left < missing:  # so the end of train gives as many as its start
                missing -= 1
                if new.add(row, how):
                    yield row
            left -= 1

    def _from_file(
        self, context: Context, path: Path, text: TextFile, new: Novel
    ) -> Iterator[Pair]:
        """Yield the new rows of a file; the nearest first if some are to be chosen."""
        rows, blank = _read(context.task, path, text.file, context.work)
        if blank:
            new.counts["without_text"] += blank
        places: Sequence[int] = range(len(rows))
        if text.rows is not None and text.rows < len(rows):
            if text.choose == "random":
                draw = random.Random(f"{context.seed} {text.file}")  # noqa: S311
                places = draw.sample(places, len(rows))
            else:
                context.progress(0, 1, f"{text.file}: choosing the most similar texts")
                places = _nearest(rows, new.places(rows), context.split("train"))
        for place in places:
            row = transfer_set.pair(rows, place)
            if new.add(row, "from_files"):
                yield row

    def _variants(self, context: Context, note: str) -> Iterator[Variant]:
        """Yield what all training rows give, with how it was made; the same each time."""
        train = context.split("train")
        draw = random.Random(context.seed)  # noqa: S311
        for number, row in enumerate(transfer_set.rows(train), 1):
            place = draw.randrange(len(train))
            other = transfer_set.pair(train, place)
            yield from self._variants_of_row(row, other, draw)
            context.progress(number, len(train), note)

    def _variants_of_row(self, row: Pair, other: Pair, draw: random.Random) -> Iterator[Variant]:
        """Yield what one row gives; ``other``: another row, to splice with."""
        first, second = row
        if second is not None and draw.random() < 0.5:
            for how, text in self._variants_of_text(second, other[1] or "", draw):
                yield how, (first, text)
        else:
            for how, text in self._variants_of_text(first, other[0], draw):
                yield how, (text, second)

    def _variants_of_text(
        self, text: str, other: str, draw: random.Random
    ) -> Iterator[tuple[str, str]]:
        """Yield what one text gives, with how it was made."""
        from rarefy.stages.transfer import spans

        if self.clauses:
            for part in spans.clauses(text):
                yield "clauses", part
        for part in spans.spans(text, self.spans, draw):
            yield "spans", part
        for _ in range(self.splices):
            yield "splices", spans.splice(text, other, draw)


def _nearest(rows: Split, places: Sequence[int], domain: Split) -> list[int]:
    """Return the places of rows, those that read most like the domain's first."""
    from rarefy.stages.augment.domain import ranked

    def text(place: int) -> str:
        return _joined(transfer_set.pair(rows, place))

    examples = map(_joined, transfer_set.rows(domain))
    return ranked(text, places, examples)


def _joined(row: Pair) -> str:
    return " ".join(text for text in row if text)


def _read(task: Task, path: Path, reference: str, folder: Path) -> tuple[Split, int]:
    """Return a file's rows that have all texts, and the number of the others.

    Raises DataError if it lacks a column or rows.
    """
    source = Source("unlabelled", reference, path, file_sha256(path))
    columns = [Texts(folder) for _ in task.text_columns]
    number = 0
    with table_file.opened(source) as table:
        for name in task.text_columns:
            if name not in table.names:
                names = ", ".join(table.names) or "none"
                raise DataError(f"{reference}: no column {name!r}; the file has {names}")
        for number, values in enumerate(table.rows(list(task.text_columns)), 1):
            row = task.reader.read_row(values, (), source, number)
            if isinstance(row, str):
                continue
            for texts, text in zip(columns, row[0], strict=True):
                texts.append(text)
    if not len(columns[0]):
        raise DataError(f"{reference}: no row has a text")
    pairs = columns[1] if len(columns) > 1 else None
    rows = Split("unlabelled", reference, source.sha256, columns[0], pairs, None)
    return rows, number - len(rows)
