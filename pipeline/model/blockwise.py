"""Tables in 4 bits: the neighbours of a row share a scale and a zero point."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK = 64
"""Columns that share a scale and a zero point, which add half a bit to each value."""
LARGEST = 15


class Blocks(NamedTuple):
    """A table: a value is (code − zero point) · scale, both of its block.

    ``codes``: rows × columns, 0 to 15; ``scales``, ``zeros``: rows × blocks of ``BLOCK`` columns.
    """

    codes: NDArray[np.uint8]
    scales: NDArray[np.float32]
    zeros: NDArray[np.uint8]

    def values(self) -> NDArray[np.float32]:
        """Return the table in float."""
        columns = self.codes.shape[1]
        scales, zeros = (
            np.repeat(each.astype(np.float32), BLOCK, axis=1)[:, :columns]
            for each in (self.scales, self.zeros)
        )
        found: NDArray[np.float32] = (self.codes - zeros) * scales
        return found


def blocks(table: NDArray[np.float32]) -> Blocks:
    """Round a table: 16 steps from the least of a block to its largest, 0 between them."""
    rows, columns = table.shape
    full = np.pad(table, ((0, 0), (0, -columns % BLOCK))).reshape(rows, -1, BLOCK)
    low, high = np.minimum(full.min(axis=2), 0), np.maximum(full.max(axis=2), 0)
    scales = np.maximum((high - low) / LARGEST, 1e-12).astype(np.float32)
    zeros = np.clip(np.rint(-low / scales), 0, LARGEST)
    codes = np.clip(np.rint(full / scales[..., None]) + zeros[..., None], 0, LARGEST)
    codes = codes.reshape(rows, -1)[:, :columns]
    return Blocks(codes.astype(np.uint8), scales, zeros.astype(np.uint8))


def packed(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return numbers from 0 to 15, two in each byte along a row, the first in the lower half."""
    even = np.pad(values, ((0, 0), (0, values.shape[1] % 2)))
    return even[:, 0::2] + np.uint8(16) * even[:, 1::2]
