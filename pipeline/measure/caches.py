"""Empty the processor's caches, as other programs of a machine do between two calls of a model."""

from __future__ import annotations

import numpy as np

SIZE = 256 * 2**20
"""Bytes: more than the last-level cache that one core can use."""
_LINE = 64  # bytes that a cache holds together


class Caches:
    """Memory that is larger than the caches: writing to all of it throws out everything else."""

    def __init__(self) -> None:
        self._memory = np.zeros(SIZE // 8, dtype=np.int64)

    def empty(self) -> None:
        """Write to each line of the memory; takes some 20 ms."""
        self._memory[:: _LINE // 8] += 1
