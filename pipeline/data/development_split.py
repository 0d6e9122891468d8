"""The development split: rows on which everything is chosen, cut from the training rows.

The eval split can be cut from them first, in the same way.

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

from rarefy.pipeline.data.split import Split, normalized
from rarefy.pipeline.data.table import Source
from rarefy.pipeline.terms.digests import value_sha256
from rarefy.pipeline.terms.wording import percent, plural

T = TypeVar("T")
NAME = "dev"
EVAL = "eval"
SEED = 0
VERSION = 4
"""Raised when other rows are cut of the same ones: the digest of what is cut has it."""
LARGEST = 2
"""How many times as many rows as were asked for whole groups, or those of one text, may make."""
MOST = 2000
"""Rows at most: enough to tell choices apart, few enough to try many."""


def source(train: Source, share: float, group: str | None, eval_share: float = 0) -> Source:
    """Return the source of the rows that are cut from ``train``; its digest says how.

    ``eval_share``: of the eval rows that are cut off before.
    """
    facts = [train.sha256, share, group, SEED, MOST, VERSION]
    if eval_share:
        facts.append(eval_share)
    return Source(NAME, train.reference, train.path, value_sha256(facts))


def eval_source(train: Source, share: float, group: str | None) -> Source:
    """Return the source of the eval rows that are cut from ``train``; its digest says how."""
    digest = value_sha256([EVAL, train.sha256, share, group, SEED, VERSION])
    return Source(EVAL, train.reference, train.path, digest)


def cut(train: Split, strata: Sequence[Hashable], share: float, dev: Source) -> tuple[Split, Split]:
    """Return the training rows without the development rows, and the development rows.

    A share of each stratum is taken (of dev at most 2,000 rows), or whole groups if the split has
    groups, without those that are far too large. Rows with equal (first) texts stay together,
    unless so many share one that pairs have to be told apart by both texts. If the rows are too few
    to spare one, they all stay in training, and the development split has them too.

    Args:
        train: the rows.
        strata: the stratum of each row; empty for rows without targets.
        share: about how much of each stratum is taken, from 0 to 1.
        dev: the ``source`` of the rows that are cut off.
    """
    count = len(train)
    if dev.name == NAME:
        most = MOST / count
        share = min(share, most)
    if train.groups is not None:
        chosen = _group_rows(train, share)
    elif dev.name == NAME:
        chosen = _rows(train, strata, share)
    else:
        chosen = _rows(_folded(train), strata, share)
    if not chosen or len(chosen) == count:
        return train, picked(train, range(count), dev.name, dev.sha256)
    rest = [row for row in range(count) if row not in chosen]
    remaining = picked(train, rest, train.name, train.sha256)
    cut_off = picked(train, sorted(chosen), dev.name, dev.sha256)
    return remaining, cut_off


def _folded(train: Split) -> Split:
    """Return rows whose texts are equal if they count as duplicates, which eval must not have."""
    texts = [normalized(text) for text in train.texts]
    pairs = None
    if train.pairs is not None:
        pairs = [normalized(text) for text in train.pairs]
    return replace(train, texts=texts, pairs=pairs)


def _group_rows(train: Split, share: float) -> set[int]:
    """Return the rows of whole groups that have about ``share`` of all rows together."""
    groups = train.groups or ()
    chosen = _groups(Counter(groups), round(share * len(train)))
    return {row for row, group in enumerate(groups) if group in chosen}


def warning(train: Split, dev: Split, share: float) -> str | None:
    """Return what is wrong with the rows ``dev`` that were cut from ``train``, if anything."""
    rows, name = len(train), dev.name
    if len(dev) == rows:
        why = why_none(train)
        return f"dev: {why}, so choices are made on the training rows themselves; give data.dev"
    target = round(share * rows)
    if name == NAME:
        target = min(target, MOST)
    if target / LARGEST <= len(dev) <= LARGEST * target:
        return None
    actual, expected = percent(len(dev) / rows), percent(target / rows)
    reason = f"whole groups have {actual} of the rows"
    if train.groups is None:
        reason = f"rows with one text stay together: {actual} of them were cut off"
    return f"{name}: {reason}, where {expected} were to be cut off; give data.{name}"


def why_none(train: Split) -> str:
    """Return why no rows could be cut off."""
    groups, texts = train.groups or (), train.texts
    if len(set(groups)) == 1:
        return f"all rows of train are in one group ({groups[0][:40]!r})"
    if len(texts) > 1 and len(set(texts)) == 1:
        return f"all rows of train have one text ({texts[0][:40]!r})"
    return f"train is too small to spare rows ({plural(len(train), 'row')})"


def _rows(train: Split, strata: Sequence[Hashable], share: float) -> set[int]:
    """Return the first rows of each stratum in the order of their places, and those of small ones.

    A stratum is small if its share is not one row.
    """
    places = array("Q", map(_place, train.texts))
    layers: dict[Hashable, list[int]] = defaultdict(list)
    for row in range(len(places)):
        stratum = strata[row] if strata else None
        layers[stratum].append(row)
    chosen: set[int] = set()
    small: list[list[int]] = []
    apart: set[int] = set()
    for rows in layers.values():
        count = round(share * len(rows))
        if not count:
            small.append(rows)
            continue
        first_rows, by_both = _of_stratum(train, rows, places, count)
        chosen |= first_rows
        if by_both:
            apart.update(rows)
    chosen |= _of_small(small, places, share)
    return _together(chosen, apart, places, list(layers.values()), share)


def _of_stratum(
    train: Split, rows: list[int], places: Sequence[int], count: int
) -> tuple[set[int], bool]:
    """Return the first rows of a stratum in the order of their places; see ``_of_shared``."""
    ordered = sorted(places[row] for row in rows)
    last = ordered[count - 1]
    first_rows = {row for row in rows if places[row] <= last}
    too_many = len(first_rows) > LARGEST * count or len(first_rows) == len(rows)
    if too_many:
        return _of_shared(train, rows, places, count)
    return first_rows, False


def _together(
    chosen: set[int],
    apart: set[int],
    places: Sequence[int],
    layers: Sequence[list[int]],
    share: float,
) -> set[int]:
    """Return the chosen rows with all others of their texts, which other strata did not choose.

    Texts of few rows come first. Texts that would make far too many rows, or take the last ones of
    a stratum from train, are left out.

    Args:
        chosen: the rows that the strata chose.
        apart: rows of pairs that are told apart by both texts.
        places: a number for each row, which rows with one text share.
        layers: the rows of each stratum.
        share: the share of all rows that is cut off.
    """
    torn = _torn_texts(chosen, apart, places)
    rows_of: dict[int, list[int]] = {text: [] for text in sorted(torn)}
    for row, text in enumerate(places):
        if text in torn and row not in apart:
            rows_of[text].append(row)
    whole = chosen.difference(*rows_of.values())
    stratum: dict[int, int] = {}
    for number, layer in enumerate(layers):
        stratum |= dict.fromkeys(layer, number)
    rest = Counter(number for row, number in stratum.items() if row not in whole)
    most = LARGEST * round(share * len(places))
    for rows in sorted(rows_of.values(), key=len):
        if len(whole) + len(rows) > most:
            continue
        counts = Counter(stratum[row] for row in rows)
        if all(rest[number] > count for number, count in counts.items()):
            whole.update(rows)
            rest -= counts
    return whole or chosen


def _torn_texts(chosen: set[int], apart: set[int], places: Sequence[int]) -> set[int]:
    """Return the places of texts of which some rows are chosen and some are not."""
    inside = {places[row] for row in chosen - apart}
    rows = (row for row in range(len(places)) if row not in chosen and row not in apart)
    return inside.intersection(places[row] for row in rows)


def _of_shared(
    train: Split, rows: list[int], places: Sequence[int], count: int
) -> tuple[set[int], bool]:
    """Choose some of a stratum's rows, many of which share a text.

    Rows with one text are a group. If groups are too large, rows of pairs are told apart by both
    texts. A stratum keeps its last text: no model could learn it otherwise.

    Args:
        train: the texts.
        rows: those of the stratum.
        places: a number for each row of ``train``, which rows with one text share.
        count: about how many rows to choose.

    Returns:
        The rows, and whether pairs are told apart by both texts.
    """
    groups = {row: str(places[row]) for row in rows}
    shared, by_both = _whole(groups, count), False
    fits = count / LARGEST <= len(shared) <= LARGEST * count
    texts, pairs = train.texts, train.pairs
    if pairs is not None and not fits:
        groups = {row: f"{texts[row]}\0{pairs[row]}" for row in rows}
        shared, by_both = _whole(groups, count), True
    if len(shared) == len(rows):
        shared = set()
    return shared, by_both


def _whole(group_of: Mapping[int, str], count: int) -> set[int]:
    """Return the rows of whole groups that have about ``count`` rows together."""
    chosen = _groups(Counter(group_of.values()), count)
    return {row for row, group in group_of.items() if group in chosen}


def _of_small(small: Sequence[list[int]], places: Sequence[int], share: float) -> set[int]:
    """Return the first row of as many small strata as their share of all their rows has rows.

    The largest come first, as in the method of largest remainders, and then the order is that of
    places. A stratum keeps its last text: no model could learn it otherwise.
    """
    chosen: set[int] = set()
    count = round(share * sum(map(len, small)))
    if not count:
        return chosen
    candidates = []
    for rows in small:
        texts = {places[row] for row in rows}
        if len(texts) > 1:
            candidates.append((-len(rows), min(texts), rows))
    candidates.sort(key=lambda candidate: candidate[:2])
    for _, first, rows in candidates[:count]:
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
    total = 0
    ordered = sorted(sizes, key=_place)
    for group in ordered:
        larger = total + sizes[group]
        if total < count and larger <= LARGEST * count:
            chosen.add(group)
            total = larger
    rest = [group for group in ordered if group not in chosen]
    if not rest or total >= count / LARGEST:
        return chosen
    smallest = min(rest, key=sizes.__getitem__)
    if total + sizes[smallest] > sum(sizes.values()) / 2:
        return chosen
    return chosen | {smallest}


def _place(key: str) -> int:
    digest = hashlib.blake2b(f"{SEED} {key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def picked(split: Split, rows: Sequence[int], name: str, sha256: str) -> Split:
    """Return some rows of a split as a split of another name."""

    def pick(values: Sequence[T] | None) -> Sequence[T] | None:
        return None if values is None else Picked(values, rows)

    columns = {}
    for column, values in split.columns.items():
        some = Picked(values, rows)
        columns[column] = list(some)
    return replace(
        split,
        name=name,
        sha256=sha256,
        texts=Picked(split.texts, rows),
        pairs=pick(split.pairs),
        labels=pick(split.labels),
        columns=columns,
        groups=pick(split.groups),
        negatives=pick(split.negatives),
        ids=pick(split.ids),
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
