"""Which texts of a transfer set are new: in none of the recipe's splits, and there once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from rarefy.pipeline.data.split import Split, row_digest, row_digests
from rarefy.stages.transfer.files import Pair, rows


class Novel:
    """Tells new rows from those of the splits and from each other, and counts both.

    Case, punctuation, spaces and the order of a pair do not count. In memory is a hash of each
    row, a hundred bytes.

    Attributes:
        counts: how many new rows were made in each way, and how many rows were not new, and why.

    Args:
        splits: the recipe's splits.
        singly: whether models read each text of a pair alone; then a row with one text of dev or
            eval is not new either.
    """

    def __init__(self, splits: Mapping[str, Split], *, singly: bool = False) -> None:
        self._digests: dict[str, set[bytes]] = {}
        for name in ("train", "dev", "eval"):
            if name not in splits:
                continue
            alone = singly and name != "train"
            self._digests[name] = set()
            for row in rows(splits[name]):
                self._digests[name].update(row_digests(row, singly=alone))
        self._seen: set[bytes] = set()
        self.counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, row: Pair, how: str) -> bool:
        """Return whether a row is new; count it as ``how``, or as why it is not."""
        reason = self.reason(row)
        self.counts[reason or how] += 1
        if reason is None:
            self._seen.add(row_digest(row))
        return reason is None

    def reason(self, row: Pair) -> str | None:
        """Return why a row is not new: ``repeated`` or, e.g., ``in_eval``; None if it is.

        A row is in eval if a text of it is there alone, as the queries of a search are.
        """
        parts = set(row_digests(row, singly=True))
        for name, stored in self._digests.items():
            if not stored.isdisjoint(parts):
                return f"in_{name}"
        return "repeated" if row_digest(row) in self._seen else None

    def places(self, split: Split) -> list[int]:
        """Return the places of a split's new rows, each once; count why the others are not."""
        first: dict[bytes, int] = {}
        for place, row in enumerate(rows(split)):
            reason = self.reason(row)
            if reason is None and row_digest(row) in first:
                reason = "repeated"
            if reason is None:
                first[row_digest(row)] = place
            else:
                self.counts[reason] += 1
        return list(first.values())
