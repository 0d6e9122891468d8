"""Tables in 4 bits: the neighbours of a row share a scale and a zero point."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FILE = "int4.safetensors"
"""The weights of a checkpoint's int4 layers, beside the float ones that they stand for."""
COLUMNS = "columns"
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


def steps(blocks: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the scales and zero points of blocks, which are along the last axis.

    There are 16 steps from the least of a block to its largest, and 0 is between them.
    """
    low, high = np.minimum(blocks.min(axis=-1), 0), np.maximum(blocks.max(axis=-1), 0)
    scales = np.maximum((high - low) / LARGEST, 1e-12).astype(np.float32)
    return scales, np.clip(np.rint(-low / scales), 0, LARGEST).astype(np.uint8)


def blocks(table: NDArray[np.float32]) -> Blocks:
    """Round a table, each number to the nearest step of its block."""
    rows, columns = table.shape
    full = np.pad(table, ((0, 0), (0, -columns % BLOCK))).reshape(rows, -1, BLOCK)
    scales, zeros = steps(full)
    codes = np.clip(np.rint(full / scales[..., None]) + zeros[..., None], 0, LARGEST)
    codes = codes.reshape(rows, -1)[:, :columns]
    return Blocks(codes.astype(np.uint8), scales, zeros)


def packed(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return numbers from 0 to 15, two in each byte along a row, the first in the lower half."""
    even = np.pad(values, ((0, 0), (0, values.shape[1] % 2)))
    return even[:, 0::2] + np.uint8(16) * even[:, 1::2]


def write(weights: Mapping[str, Blocks], directory: Path) -> None:
    """Write the weights of layers (outputs × inputs) beside a checkpoint, by module."""
    from safetensors.numpy import save_file

    held = {
        f"{module}.{part}": value if part == "scales" else packed(value)
        for module, made in weights.items()
        for part, value in made._asdict().items()
    }
    # The number of columns: two codes are in a byte, and the last may be of none.
    columns = {module: made.codes.shape[1] for module, made in weights.items()}
    # One entry: the library writes several in another order each time, so the bytes would differ.
    save_file(held, directory / FILE, metadata={COLUMNS: json.dumps(columns)})


def read(directory: Path) -> dict[str, Blocks]:
    """Return the weights that were written beside a checkpoint; empty if there are none."""
    from safetensors import safe_open

    path = directory / FILE
    if not path.is_file():
        return {}
    with safe_open(path, framework="numpy") as held:
        found = {}
        for module, columns in json.loads((held.metadata() or {}).get(COLUMNS, "{}")).items():
            codes, scales, zeros = (held.get_tensor(f"{module}.{part}") for part in Blocks._fields)
            found[module] = Blocks(
                unpacked(codes, columns), scales, unpacked(zeros, scales.shape[1])
            )
    return found


def unpacked(values: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Return the numbers that ``packed`` put two in each byte."""
    return np.stack([values & 15, values >> 4], axis=2).reshape(len(values), -1)[:, :columns]


def put(weights: Mapping[str, Blocks], model: Any) -> None:
    """Give layers of a network these weights, by module, in float."""
    import torch

    for name, made in weights.items():
        held = model.get_submodule(name).weight
        held.data = torch.from_numpy(made.values()).to(held)
