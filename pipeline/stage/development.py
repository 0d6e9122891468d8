"""The development split: rows on which everything is chosen, cut from the training rows.

A row's place is drawn from a hash of its text, so equal texts stay together, and rows added later
do not move the others.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar, overload

from pipeline.stage.split import Split
from pipeline.stage.table_file import Source
from pipeline.terms.digests import value_sha256

T = TypeVar("T")
NAME = "dev"
SEED = 0
GROUPS = 2
"""The version of what becomes of groups; older results of data with groups are not found again."""
MOST = 2000
"""Rows at most: enough to tell choices apart, few enough to try many."""


def source(train: Source, share: float, group: str | None) -> Source:
    """Return the source of the rows that are cut from ``train``; its digest says how."""
    digest = value_sha256([train.sha256, share, group, SEED, MOST, *([GROUPS] if group else [])])
    return Source(NAME, train.reference, train.path, digest)


def cut(train: Split, strata: Sequence[Hashable], share: float, dev: Source) -> tuple[Split, Split]:
    """Return the training rows without the development rows, and the development rows.

    About ``share`` of each stratum is taken (at most 2,000 rows in all), or whole groups if the
    split has groups. ``strata`` is empty for rows without targets. ``dev``: the ``source`` of the
    development rows. If the rows are too few to spare one, they all stay in training, and the
    development split has them too.
    """
    share = min(share, MOST / len(train))
    keys = train.groups if train.groups is not None else train.texts
    places = array("Q", (_place(key) for key in keys))
    layers: dict[Hashable, list[int]] = defaultdict(list)
    for row in range(len(train)):
        layers[strata[row] if strata and train.groups is None else None].append(row)
    chosen: set[int] = set()
    for rows in layers.values():
        count = round(share * len(rows))
        if count:
            last = sorted(places[row] for row in rows)[count - 1]
            chosen.update(row for row in rows if places[row] <= last)
    if not chosen or len(chosen) == len(train):
        return train, picked(train, range(len(train)), dev.name, dev.sha256)
    left = [row for row in range(len(train)) if row not in chosen]
    kept = picked(train, left, train.name, train.sha256)
    return kept, picked(train, sorted(chosen), dev.name, dev.sha256)


def _place(key: str) -> int:
    digest = hashlib.blake2b(f"{SEED} {key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def picked(split: Split, rows: Sequence[int], name: str, sha256: str) -> Split:
    """Return some rows of a split as a split of another name."""

    def of(values: Sequence[T] | None) -> Sequence[T] | None:
        return None if values is None else Picked(values, rows)

    texts = of(split.texts)
    assert texts is not None
    return replace(
        split,
        name=name,
        sha256=sha256,
        texts=texts,
        pairs=of(split.pairs),
        labels=of(split.labels),
        groups=of(split.groups),
        negatives=of(split.negatives),
    )


class Picked(Sequence[T]):
    """Some of the values of a sequence, by their places; 8 bytes each."""

    def __init__(self, values: Sequence[T], places: Sequence[int]) -> None:
        self._values, self._places = values, array("q", places)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        """Return one value, or those of a slice as a list."""
        if isinstance(index, slice):
            return [self._values[place] for place in self._places[index]]
        return self._values[self._places[index]]

    def __iter__(self) -> Iterator[T]:
        return (self._values[place] for place in self._places)
