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

IDS, GROUP = "input_ids", "group"


class Rows(Sequence[Row]):
    """Tokenized rows in a temporary file without a name; a row is read when it is asked for.

    In memory are 8 bytes for each list of a row, and for each number in it, such as a class index,
    a score or a group. With ``numbered``, ``row`` in a row is its index, under which a teacher's
    outputs are found. As in ``Texts``, the file is read with plain reads and is never left behind.
    """

    def __init__(self, folder: Path, *, numbered: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed with the object)
        self._keys: tuple[str, ...] = ()
        self._ends = array("q", [0])
        self._numbers: dict[str, array[Any]] = {}
        self._count = 0
        self._numbered = numbered

    def extend(self, rows: Iterable[Row]) -> None:
        """Add rows at the end. Lists hold whole numbers; all rows have the same keys."""
        ids = array("i")
        self._file.seek(ids.itemsize * self._ends[-1])
        for row in rows:
            self._keys = self._keys or tuple(key for key in row if isinstance(row[key], list))
            for key in self._keys:
                ids.extend(row[key])
                self._ends.append(self._ends[-1] + len(row[key]))
            for key in row.keys() - self._keys:
                kind = "d" if isinstance(row[key], float) else "l"
                self._numbers.setdefault(key, array(kind)).append(row[key])
            self._count += 1
        self._file.write(ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens in each row."""
        if not len(self):
            return np.empty(0, np.int64)
        lists = np.diff(np.frombuffer(self._ends, np.int64)).reshape(len(self), -1)
        return np.ascontiguousarray(lists[:, self._keys.index(IDS)])

    @property
    def groups(self) -> NDArray[np.int64] | None:
        """The group of each row, below 0 for none; None if rows have no groups."""
        found = self._numbers.get(GROUP)
        return None if found is None else np.array(found, np.int64)

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
        row |= {key: values[at] for key, values in self._numbers.items()}
        if self._numbered:
            row["row"] = at
        return row


def lengths(rows: Sequence[Row]) -> NDArray[np.int64]:
    """Return the number of tokens in each row."""
    if isinstance(rows, Rows):
        return rows.lengths
    return np.array([len(row[IDS]) for row in rows], np.int64)


def groups(rows: Sequence[Row]) -> NDArray[np.int64] | None:
    """Return a group of each row, a number; None if no row has a group with another."""
    if isinstance(rows, Rows):
        found = rows.groups
    else:
        known = [row[GROUP] for row in rows if GROUP in row]
        found = np.array(known, np.int64) if known else None
    if found is None or (found < 0).all():
        return None
    alone = found.max() + 1 + np.arange(len(found))
    return np.where(found < 0, alone, found)
