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
            if not self._keys:
                self._keys = tuple(key for key in row if isinstance(row[key], list))
            for key in self._keys:
                ids.extend(row[key])
                self._ends.append(self._ends[-1] + len(row[key]))
            for key in row.keys() - self._keys:
                self._append_number(key, row[key])
            self._count += 1
        self._file.write(ids)

    def _append_number(self, key: str, number: float) -> None:
        kind = "d" if isinstance(number, float) else "l"
        column = self._numbers.setdefault(key, array(kind))
        column.append(number)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens in each row."""
        if not len(self):
            return np.empty(0, np.int64)
        ends = np.frombuffer(self._ends, np.int64)
        sizes = np.diff(ends).reshape(len(self), -1)
        column = self._keys.index(IDS)
        return np.ascontiguousarray(sizes[:, column])

    @property
    def groups(self) -> NDArray[np.int64] | None:
        """The group of each row, below 0 for none; None if rows have no groups."""
        column = self._numbers.get(GROUP)
        if column is None:
            return None
        return np.array(column, np.int64)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        """Return one row, or those of a slice as a list."""
        places = range(len(self))[index]
        if isinstance(places, range):
            return [self._read(place) for place in places]
        return self._read(places)

    def _read(self, place: int) -> Row:
        """Return the row at a place, which is not negative."""
        first = place * len(self._keys)
        ends = self._ends[first : first + len(self._keys) + 1]
        ids = array("i")
        self._file.seek(ids.itemsize * ends[0])
        ids.frombytes(self._file.read(ids.itemsize * (ends[-1] - ends[0])))
        row: dict[str, Any] = {}
        for number, key in enumerate(self._keys):
            start, end = ends[number] - ends[0], ends[number + 1] - ends[0]
            row[key] = ids[start:end].tolist()
        for key, values in self._numbers.items():
            row[key] = values[place]
        if self._numbered:
            row["row"] = place
        return row


def lengths(rows: Sequence[Row]) -> NDArray[np.int64]:
    """Return the number of tokens in each row."""
    if isinstance(rows, Rows):
        return rows.lengths
    return np.array([len(row[IDS]) for row in rows], np.int64)


def groups(rows: Sequence[Row]) -> NDArray[np.int64] | None:
    """Return the number of each row's group; None if no row shares a group with another."""
    if isinstance(rows, Rows):
        numbers = rows.groups
    else:
        listed = [row[GROUP] for row in rows if GROUP in row]
        numbers = np.array(listed, np.int64) if listed else None
    if numbers is None or (numbers < 0).all():
        return None
    own_numbers = numbers.max() + 1 + np.arange(len(numbers))
    return np.where(numbers < 0, own_numbers, numbers)
