"""Which texts of a transfer set are new: in none of the recipe's splits, and there once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from rarefy.pipeline.data.duplicates import digest, digests
from rarefy.pipeline.data.split import Split
from rarefy.stages.transfer.files import Pair

SPLITS = frozenset({"train", "dev", "eval"})
"""The splits whose rows are left out."""


class Novel:
    """Counts what it is asked about; ``counts`` has how each new row was made, and what was not.

    Case, punctuation, spaces and the order of a pair do not count. In memory is a hash of each
    row, a hundred bytes. With ``singly``, for models that read each text of a pair alone, a row
    with one text of dev or eval is not new either.
    """

    def __init__(self, splits: Mapping[str, Split], *, singly: bool = False) -> None:
        self._known = {
            name: {
                known
                for row in rows(splits[name])
                for known in digests(row, singly=singly and name != "train")
            }
            for name in ("train", "dev", "eval")
            if name in splits
        }
        self._seen: set[bytes] = set()
        self.counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, row: Pair, how: str) -> bool:
        """Return whether a row is new; count it as ``how``, or as why it is not."""
        known = self.known(row)
        self.counts[known or how] += 1
        if known is None:
            self._seen.add(digest(row))
        return known is None

    def known(self, row: Pair) -> str | None:
        """Return why a row is not new: ``repeated`` or, e.g., ``in_eval``; None if it is.

        A row is in eval if a text of it is there alone, as the queries of a search are.
        """
        own, asked = digest(row), set(digests(row, singly=True))
        for name, known in self._known.items():
            if not known.isdisjoint(asked):
                return f"in_{name}"
        return "repeated" if own in self._seen else None

    def places(self, split: Split) -> list[int]:
        """Return the places of a split's new rows, each once; count why the others are not."""
        own: dict[bytes, int] = {}
        for place, row in enumerate(rows(split)):
            known = self.known(row) or ("repeated" if digest(row) in own else None)
            if known is None:
                own[digest(row)] = place
            else:
                self.counts[known] += 1
        return list(own.values())


def rows(split: Split) -> Iterator[Pair]:
    """Yield a split's rows as pairs of texts."""
    return (pair(split, place) for place in range(len(split)))


def pair(split: Split, place: int) -> Pair:
    """Return a row of a split as a pair of texts."""
    return split.texts[place], None if split.pairs is None else split.pairs[place]
