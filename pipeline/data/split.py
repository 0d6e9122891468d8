"""The rows of one split, as stages and tasks read them: which are the same, and texts on disk.

Case, punctuation, spaces and order make no difference to whether rows of text are the same.
"""

from __future__ import annotations

import os
import tempfile
import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, overload

from rarefy.pipeline.store import disk
from rarefy.pipeline.store.artifact import DataRecord

_VARIATIONS = "\ufe0e\ufe0f"
"""They say whether the character before is drawn as an emoji; many programs leave them out."""
_QUOTES = str.maketrans("`´", "''")


def normalized(text: str) -> str:
    """Return a text by which equal ones are found: case, punctuation and spaces do not count.

    Nor do the ways in which Unicode writes one character (NFKC) and invisible characters; symbols
    and combining marks count. A text of punctuation alone stays as it is.
    """
    composed = unicodedata.normalize("NFKC", text.translate(_QUOTES))
    folded = unicodedata.normalize("NFKC", composed.casefold())
    words = folded.translate(_PLAIN).split()
    return " ".join(words) or text.strip()


class _Plain(dict[int, str | None]):
    """A table for ``str.translate``: punctuation becomes a space, invisible characters vanish."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        category = unicodedata.category(character)
        replacement: str | None = character
        if category == "Cf" or character in _VARIATIONS:
            replacement = None
        elif category[0] in "PZC":
            replacement = " "
        self[code] = replacement
        return replacement


_PLAIN = _Plain()


def row_digest(row: Iterable[str | None]) -> bytes:
    """Return 8 bytes that rows of the same texts share, in whatever order."""
    texts = [normalized(part) for part in row if part is not None]
    joined = "\n".join(sorted(texts))
    return blake2b(joined.encode(), digest_size=8).digest()


def row_digests(row: Sequence[str | None], *, singly: bool) -> Iterator[bytes]:
    """Yield the digest of a row and, with ``singly``, those of each of its texts alone.

    A model that reads each text of a pair alone has seen a row if it has seen one of its texts.
    """
    yield row_digest(row)
    if singly:
        yield from (row_digest((text, None)) for text in row if text is not None)


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
        for digest in map(row_digest, rows):
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


class Texts(Sequence[str]):
    """Texts in a temporary file without a name; only their positions are in memory, 8 bytes each.

    The file is read with plain reads rather than memory-mapped, because mapped pages would count
    as resident memory. It vanishes with the object, or with the process if that is killed.
    ``folder``: where the file is; default: the system's folder for temporary files. A full disk or
    a folder that is read-only raises ProviderError.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir())
        with disk.speaking(self._folder):
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed with the object)
        self._ends = array("q", [0])
        self._written = True

    def append(self, text: str) -> None:
        """Add a text at the end."""
        content = text.encode()
        with disk.speaking(self._folder):
            self._file.seek(self._ends[-1])
            self._file.write(content)
        self._written = False
        self._ends.append(self._ends[-1] + len(content))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """Return one text, or those of a slice as a list."""
        if isinstance(index, slice):
            return [self[row] for row in range(len(self))[index]]
        row = range(len(self))[index]
        if not self._written:
            with disk.speaking(self._folder):
                self._file.flush()
            self._written = True
        # Reads at a place, so that threads which read at the same time do not move one another's.
        length = self._ends[row + 1] - self._ends[row]
        return os.pread(self._file.fileno(), length, self._ends[row]).decode()

    def __iter__(self) -> Iterator[str]:
        return (self[row] for row in range(len(self)))
