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
        scales = spread(self.scales, columns)
        zeros = spread(self.zeros, columns)
        return (self.codes - zeros) * scales


def spread(blocks: NDArray[Any], columns: int) -> NDArray[np.float32]:
    """Return a number of each block (rows, blocks) for each of its columns (rows, columns)."""
    repeated = np.repeat(blocks.astype(np.float32), BLOCK, axis=1)
    return repeated[:, :columns]


def steps(blocks: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the scales and zero points of blocks, which are along the last axis.

    There are 16 steps from the least of a block to its largest, and 0 is between them.
    """
    low = np.minimum(blocks.min(axis=-1), 0)
    high = np.maximum(blocks.max(axis=-1), 0)
    scales = np.maximum((high - low) / LARGEST, 1e-12)
    scales = scales.astype(np.float32)
    zeros = np.clip(np.rint(-low / scales), 0, LARGEST)
    return scales, zeros.astype(np.uint8)


def blocks(table: NDArray[np.float32]) -> Blocks:
    """Round a table, each number to the nearest step of its block."""
    rows, columns = table.shape
    padded = np.pad(table, ((0, 0), (0, -columns % BLOCK)))
    full = padded.reshape(rows, -1, BLOCK)
    scales, zeros = steps(full)
    codes = np.rint(full / scales[..., None])
    codes = np.clip(codes + zeros[..., None], 0, LARGEST)
    codes = codes.reshape(rows, -1)[:, :columns]
    return Blocks(codes.astype(np.uint8), scales, zeros)


def packed(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return numbers from 0 to 15, two in each byte along a row, the first in the lower half."""
    even = np.pad(values, ((0, 0), (0, values.shape[1] % 2)))
    low = even[:, 0::2]
    high = even[:, 1::2]
    return low + np.uint8(16) * high


def write(weights: Mapping[str, Blocks], directory: Path) -> None:
    """Write the weights of layers (outputs × inputs) beside a checkpoint, by module."""
    from safetensors.numpy import save_file

    tensors: dict[str, NDArray[Any]] = {}
    columns = {}
    for module, table in weights.items():
        tensors[f"{module}.codes"] = packed(table.codes)
        tensors[f"{module}.scales"] = table.scales
        tensors[f"{module}.zeros"] = packed(table.zeros)
        # Two codes are in a byte, and the last may be of none.
        columns[module] = table.codes.shape[1]
    # One entry: the library writes several in another order each time, so the bytes would differ.
    metadata = {COLUMNS: json.dumps(columns)}
    save_file(tensors, directory / FILE, metadata=metadata)


def read(directory: Path) -> dict[str, Blocks]:
    """Return the weights that were written beside a checkpoint; empty if there are none."""
    from safetensors import safe_open

    path = directory / FILE
    if not path.is_file():
        return {}
    weights = {}
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        widths = json.loads(metadata.get(COLUMNS, "{}"))
        for module, columns in widths.items():
            scales = file.get_tensor(f"{module}.scales")
            codes = unpacked(file.get_tensor(f"{module}.codes"), columns)
            zeros = unpacked(file.get_tensor(f"{module}.zeros"), scales.shape[1])
            weights[module] = Blocks(codes, scales, zeros)
    return weights


def unpacked(values: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Return the numbers that ``packed`` put two in each byte."""
    low = values & 15
    high = values >> 4
    pairs = np.stack([low, high], axis=2)
    return pairs.reshape(len(values), -1)[:, :columns]


def put(weights: Mapping[str, Blocks], model: Any) -> None:
    """Give layers of a network these weights, by module, in float."""
    import torch

    for name, table in weights.items():
        weight = model.get_submodule(name).weight
        values = torch.from_numpy(table.values())
        weight.data = values.to(weight)
