"""The rows of one split, as stages and tasks read them."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from rarefy.pipeline.data import duplicates
from rarefy.pipeline.store.artifact import DataRecord


@dataclass(frozen=True)
class Split:
    """The rows of a data file that are read for one purpose: train, dev, eval or unlabelled.

    Args:
        name: of the split.
        reference: the file, as the recipe names it.
        sha256: of the file's bytes.
        texts: one for each row: lists for eval, and on disk (``Texts``) for the other splits.
        pairs: the second text of each row; None for single texts.
        labels: each row's target in the form of the task, e.g. the index of a class; None without.
        columns: each slice column of eval -> its value in every row.
        groups: the value of the recipe's group column in every row.
        negatives: texts that each row's query must not find.
        corpus: the documents that are searched. The split then has one row for each query, whose
            label is the places of the documents that it should find.
        greatest: the largest relevance grade of train, by which dev's grades are divided; None
            for a split that has its own.
        ids: the value of the recipe's id column, "" for a row without one.
    """

    name: str
    reference: str
    sha256: str
    texts: Sequence[str]
    pairs: Sequence[str] | None
    labels: Sequence[Any] | None
    columns: dict[str, list[str]] = field(default_factory=dict)
    groups: Sequence[str] | None = None
    negatives: Sequence[tuple[str, ...]] | None = None
    corpus: Sequence[str] | None = None
    greatest: float | None = None
    ids: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def group_numbers(self) -> Sequence[int]:
        """The number of each row's group, from 0 in the order of the rows; empty without groups."""
        numbers: dict[str, int] = {}
        for group in self.groups or ():
            numbers.setdefault(group, len(numbers))
        return array("q", map(numbers.__getitem__, self.groups or ()))

    @cached_property
    def text_numbers(self) -> Sequence[int]:
        """The number of each row's texts, from 0 in the order of the rows; see ``duplicates``."""
        columns = [self.texts]
        if self.pairs is not None:
            columns.append(self.pairs)
        rows = zip(*columns, strict=True)
        numbers: dict[bytes, int] = {}
        of_row = array("q")
        for digest in map(duplicates.digest, rows):
            following = len(numbers)
            number = numbers.setdefault(digest, following)
            of_row.append(number)
        return of_row

    @cached_property
    def greatest_label(self) -> float:
        """The greatest of the labels, if they are numbers; ``greatest`` if it is given."""
        if self.greatest is not None:
            return self.greatest
        labels = self.labels or ()
        return float(max(labels))

    def evenly(self, count: int) -> list[int]:
        """Return the places of at most ``count`` rows, spread evenly over all."""
        total = len(self)
        count = min(count, total)
        return [place * total // count for place in range(count)]

    def record(self) -> DataRecord:
        return DataRecord(name=self.reference, split=self.name, rows=len(self), sha256=self.sha256)
