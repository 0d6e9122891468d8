"""Empty the processor's caches, as other programs of a machine do between two calls of a model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIZE = 256 * 2**20
"""Bytes: more than the last-level cache that one core can use."""
_LINE = 64  # bytes that a cache holds together


def memory() -> NDArray[np.int64]:
    """Return memory that is larger than the caches: writing to it throws out everything else."""
    return np.zeros(SIZE // 8, dtype=np.int64)


def empty(larger: NDArray[np.int64]) -> None:
    """Write to each line of the larger memory; takes some 20 ms."""
    larger[:: _LINE // 8] += 1
