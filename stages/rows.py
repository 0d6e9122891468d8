"""Tokenized rows on disk: a million rows must not fill the memory."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from stages.parameters import Row

IDS, LABELS = "input_ids", "labels"


class Rows(Sequence[Row]):
    """Tokenized rows in a temporary file without a name; a row is read when it is asked for.

    In memory are 8 bytes for each list of a row, and its ``labels`` if that is a number: a class
    index, or a score. With ``numbered``, ``row`` in a row is its index, under which a teacher's
    outputs are found. As in ``Texts``, the file is read with plain reads and is never left behind.
    """

    def __init__(self, folder: Path, *, numbered: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed with the object)
        self._keys: tuple[str, ...] = ()
        self._ends = array("q", [0])
        self._labels: array[int] | array[float] = array("l")
        self._count = 0
        self._numbered = numbered

    def extend(self, rows: Iterable[Row]) -> None:
        """Add rows at the end. Lists hold whole numbers; ``labels`` may be a list or a number."""
        ids = array("i")
        self._file.seek(ids.itemsize * self._ends[-1])
        for row in rows:
            self._keys = self._keys or tuple(key for key in row if isinstance(row[key], list))
            for key in self._keys:
                ids.extend(row[key])
                self._ends.append(self._ends[-1] + len(row[key]))
            self._count += 1
            if LABELS not in self._keys:
                self._append(row[LABELS])
        self._file.write(ids)

    def _append(self, label: float) -> None:
        if not self._labels and isinstance(label, float):
            self._labels = array("d")
        self._labels.append(label)  # type: ignore[arg-type]  # all labels of a task are alike

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens in each row."""
        lists = np.diff(np.frombuffer(self._ends, np.int64)).reshape(len(self), -1)
        return np.ascontiguousarray(lists[:, self._keys.index(IDS)])

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        """Return one row, or those of a slice as a list."""
        if isinstance(index, slice):
            return [self[row] for row in range(len(self))[index]]
        at = range(len(self))[index]
        ends = self._ends[at * len(self._keys) : (at + 1) * len(self._keys) + 1]
        ids = array("i")
        self._file.seek(ids.itemsize * ends[0])
        ids.frombytes(self._file.read(ids.itemsize * (ends[-1] - ends[0])))
        row: dict[str, Any] = {
            key: ids[ends[n] - ends[0] : ends[n + 1] - ends[0]].tolist()
            for n, key in enumerate(self._keys)
        }
        if self._labels:
            row[LABELS] = self._labels[at]
        if self._numbered:
            row["row"] = at
        return row


def lengths(rows: Sequence[Row]) -> NDArray[np.int64]:
    """Return the number of tokens in each row."""
    if isinstance(rows, Rows):
        return rows.lengths
    return np.array([len(row[IDS]) for row in rows], np.int64)
