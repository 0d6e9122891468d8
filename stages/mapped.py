"""Raw outputs on disk, memory-mapped: those of ten million texts must not fill the memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray


def opened(file: Path | IO[Any], units: int, width: int) -> NDArray[np.float32]:
    """Return the outputs in a file, (units, width); the system may drop their pages at any time.

    Changes of the array stay in memory.

    Args:
        file: raw fp32 numbers.
        units: their rows.
        width: the numbers of a row.
    """
    if not units * width:  # no file is mapped that is empty
        return np.empty((units, width), np.float32)
    return np.memmap(file, np.float32, "c", shape=(units, width))


def written(folder: Path, parts: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Write parts (units, width) one after another to a file without a name; return all units.

    The file vanishes with the array, or with the process if that is killed.
    """
    units = width = 0
    with tempfile.TemporaryFile(dir=folder) as file:
        for part in parts:
            file.write(np.ascontiguousarray(part))  # tofile does not say that a disk is full
            units += len(part)
            width = part.shape[1]
        file.flush()
        return opened(file, units, width)
