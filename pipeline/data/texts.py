"""Texts on disk: a split of a million rows must not fill the memory."""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from rarefy.pipeline.store import disk


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
