"""The development split: rows on which everything is chosen, cut from the training rows.

A row's place is drawn from a hash of its text, so equal texts stay together, and rows added later
do not move the others.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar, overload

from pipeline.stage.split import Split
from pipeline.stage.table_file import Source
from pipeline.terms.digests import value_sha256
from pipeline.terms.wording import percent, plural

T = TypeVar("T")
NAME = "dev"
SEED = 0
VERSION = 4
"""Raised when other rows are cut of the same ones: the digest of what is cut has it."""
LARGEST = 2
"""How many times as many rows as were asked for whole groups, or those of one text, may make."""
MOST = 2000
"""Rows at most: enough to tell choices apart, few enough to try many."""


def source(train: Source, share: float, group: str | None) -> Source:
    """Return the source of the rows that are cut from ``train``; its digest says how."""
    digest = value_sha256([train.sha256, share, group, SEED, MOST, VERSION])
    return Source(NAME, train.reference, train.path, digest)


def cut(train: Split, strata: Sequence[Hashable], share: float, dev: Source) -> tuple[Split, Split]:
    """Return the training rows without the development rows, and the development rows.

    About ``share`` of each stratum is taken (at most 2,000 rows in all), or whole groups if the
    split has groups, without those that are far too large. Rows with equal (first) texts stay
    together, unless so many share one that pairs have to be told apart by both texts. ``strata`` is
    empty for rows without targets. ``dev``: the ``source`` of the development rows. If the rows are
    too few to spare one, they all stay in training, and the development split has them too.
    """
    if train.groups is None:
        chosen = _rows(train, strata, min(share, MOST / len(train)))
    else:
        taken = _groups(Counter(train.groups), _wanted(len(train), share))
        chosen = {row for row, group in enumerate(train.groups) if group in taken}
    if not chosen or len(chosen) == len(train):
        return train, picked(train, range(len(train)), dev.name, dev.sha256)
    left = [row for row in range(len(train)) if row not in chosen]
    kept = picked(train, left, train.name, train.sha256)
    return kept, picked(train, sorted(chosen), dev.name, dev.sha256)


def warning(train: Split, dev: Split, share: float) -> str | None:
    """Return what is wrong with the development rows that were cut from ``train``, if anything."""
    if len(dev) == len(train):
        why = f"train is too small to spare rows ({plural(len(train), 'row')})"
        if train.groups is not None and len(set(train.groups)) == 1:
            why = f"all rows of train are in one group ({train.groups[0][:40]!r})"
        elif len(train) > 1 and len(set(train.texts)) == 1:
            why = f"all rows of train have one text ({train.texts[0][:40]!r})"
        return f"dev: {why}, so choices are made on the training rows themselves; give data.dev"
    wanted = _wanted(len(train), share)
    if wanted / LARGEST <= len(dev) <= LARGEST * wanted:
        return None
    real, asked = (percent(rows / len(train)) for rows in (len(dev), wanted))
    if train.groups is None:
        what = f"rows with one text stay together: {real} of them were cut off"
    else:
        what = f"whole groups have {real} of the rows"
    return f"dev: {what}, where {asked} were to be cut off; give data.dev"


def _wanted(rows: int, share: float) -> int:
    return round(min(share, MOST / rows) * rows)


def _rows(train: Split, strata: Sequence[Hashable], share: float) -> set[int]:
    """Return the first rows of each stratum in the order of their places, and those of small ones.

    A stratum is small if its share is not one row.
    """
    places = array("Q", (_place(text) for text in train.texts))
    layers: dict[Hashable, list[int]] = defaultdict(list)
    for row in range(len(places)):
        layers[strata[row] if strata else None].append(row)
    chosen: set[int] = set()
    small: list[list[int]] = []
    apart: set[int] = set()
    for rows in layers.values():
        count = round(share * len(rows))
        if not count:
            small.append(rows)
            continue
        last = sorted(places[row] for row in rows)[count - 1]
        found = {row for row in rows if places[row] <= last}
        if len(found) > LARGEST * count or len(found) == len(rows):
            found, by_both = _of_shared(train, rows, places, count)
            apart.update(rows if by_both else ())
        chosen |= found
    chosen |= _of_small(small, places, share)
    return _together(chosen, apart, places, list(layers.values()), share)


def _together(
    chosen: set[int],
    apart: set[int],
    places: Sequence[int],
    layers: Sequence[list[int]],
    share: float,
) -> set[int]:
    """Return the chosen rows with all others of their texts, which other strata did not choose.

    Small texts first, and without those that would make far too many rows or take the last ones of
    a stratum from train. ``apart``: rows of pairs that are told apart by both texts.
    """
    taken = {places[row] for row in chosen - apart}
    others = (row for row in range(len(places)) if row not in chosen and row not in apart)
    torn = taken.intersection(places[row] for row in others)
    texts: dict[int, list[int]] = {text: [] for text in sorted(torn)}
    for row, text in enumerate(places):
        if text in torn and row not in apart:
            texts[text].append(row)
    whole = chosen.difference(*texts.values())
    stratum = {row: number for number, layer in enumerate(layers) for row in layer}
    left = Counter(number for row, number in stratum.items() if row not in whole)
    for rows in sorted(texts.values(), key=len):
        gone = Counter(stratum[row] for row in rows)
        fits = len(whole) + len(rows) <= LARGEST * round(share * len(places))
        if fits and all(left[number] > count for number, count in gone.items()):
            whole.update(rows)
            left -= gone
    return whole or chosen


def _of_shared(
    train: Split, rows: list[int], places: Sequence[int], count: int
) -> tuple[set[int], bool]:
    """Return about ``count`` of a stratum's rows, many of which share a text.

    And whether pairs are told apart by both texts. Rows with one text are a group. If groups are
    too large, rows of pairs are told apart by both texts. A stratum keeps its last text: no model
    could learn it otherwise.
    """
    keys = {row: str(places[row]) for row in rows}
    found, by_both = _whole(keys, count), False
    if train.pairs is not None and not count / LARGEST <= len(found) <= LARGEST * count:
        keys = {row: f"{train.texts[row]}\0{train.pairs[row]}" for row in rows}
        found, by_both = _whole(keys, count), True
    return (found if len(found) < len(rows) else set()), by_both


def _whole(keys: Mapping[int, str], count: int) -> set[int]:
    """Return the rows of whole groups with about ``count`` rows; ``keys``: row -> its group."""
    chosen = _groups(Counter(keys.values()), count)
    return {row for row, key in keys.items() if key in chosen}


def _of_small(small: Sequence[list[int]], places: Sequence[int], share: float) -> set[int]:
    """Return the first row of as many small strata as their share of all their rows has rows.

    The largest come first, as in the method of largest remainders, and then the order is that of
    places. A stratum keeps its last text: no model could learn it otherwise.
    """
    chosen: set[int] = set()
    count = round(share * sum(map(len, small)))
    if not count:
        return chosen
    spared = [rows for rows in small if len({places[row] for row in rows}) > 1]
    spared.sort(key=lambda rows: (-len(rows), min(places[row] for row in rows)))
    for rows in spared[:count]:
        first = min(places[row] for row in rows)
        chosen.update(row for row in rows if places[row] == first)
    return chosen


def _groups(sizes: Mapping[str, int], count: int) -> set[str]:
    """Return the first groups, in the order of their places, that have ``count`` rows together.

    A group is left out if it would make them more than twice as many. If the others have less than
    half as many, the smallest that was left out is taken as well, unless most rows would be gone.
    """
    chosen: set[str] = set()
    if not count:
        return chosen
    found = 0
    ordered = sorted(sizes, key=_place)
    for group in ordered:
        if found < count and found + sizes[group] <= LARGEST * count:
            chosen.add(group)
            found += sizes[group]
    left = [group for group in ordered if group not in chosen]
    if not left or found >= count / LARGEST:
        return chosen
    smallest = min(left, key=lambda group: sizes[group])
    if found + sizes[smallest] > sum(sizes.values()) / 2:
        return chosen
    return chosen | {smallest}


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
