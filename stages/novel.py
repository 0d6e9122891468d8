"""Which texts of a transfer set are new: in none of the recipe's splits, and there once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import blake2b

from pipeline.stage.split import Split
from stages.spans import normalized
from stages.transfer_set import Pair

SPLITS = frozenset({"train", "dev", "eval"})
"""The splits whose rows are left out."""


class Novel:
    """Counts what it is asked about; ``counts`` has how each new text was made, and what was not.

    Case, punctuation and spaces do not count, nor which text of a pair is the first. ``apart``: the
    task reads each text of a pair for itself, so that a text of dev or eval is known alone. In
    memory is a hash of each text, a hundred bytes.
    """

    def __init__(self, splits: Mapping[str, Split], *, apart: bool = False) -> None:
        names = [name for name in ("train", "dev", "eval") if name in splits]
        self._known = {name: {_digest(row) for row in rows(splits[name])} for name in names}
        for name in names if apart else ():
            if name != "train":
                both = (text for row in rows(splits[name]) for text in row if text is not None)
                self._known[name] |= {_digest((text, None)) for text in both}
        self._seen: set[bytes] = set()
        self.counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, row: Pair, how: str) -> bool:
        """Return whether a row is new; count it as ``how``, ``repeated`` or, e.g., ``in_eval``.

        A row is in eval if its text alone is, since the rows of a search have no second text.
        """
        digest = _digest(row)
        looks = {digest} | {_digest((text, None)) for text in row if text is not None}
        if row[1] is not None:
            looks.add(_digest((row[1], row[0])))
        for name, known in self._known.items():
            if not looks.isdisjoint(known):
                self.counts[f"in_{name}"] += 1
                return False
        if digest in self._seen:
            self.counts["repeated"] += 1
            return False
        self._seen.add(digest)
        self.counts[how] += 1
        return True


def rows(split: Split) -> Iterator[Pair]:
    """Yield a split's rows as pairs of texts."""
    return (pair(split, place) for place in range(len(split)))


def pair(split: Split, place: int) -> Pair:
    """Return a row of a split as a pair of texts."""
    return split.texts[place], None if split.pairs is None else split.pairs[place]


def _digest(row: Pair) -> bytes:
    text = "\n".join(normalized(part) for part in row if part is not None)
    return blake2b(text.encode(), digest_size=8).digest()
