"""Store weights of integer products in 4 bits, following the quantization plan.

The runtime makes the int8 weights of them when it loads the graph, as it computes whatever depends
on constants only, and then multiplies as ever: little more than half of the bytes, and the same
time. Its operator for 4 bits, ``MatMulNBits``, takes up to twice as long (``benchmarks/tried.py``).

A byte holds the codes of two outputs, which a table turns into two numbers. A number less its
block's zero point, times the block's scale over the output's, is the int8 weight.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from exporters.passes.graph import array, constant, integers, node, replace
from pipeline.model import blockwise
from pipeline.model.blockwise import BLOCK, Blocks
from pipeline.model.quantization import weight_scales
from pipeline.terms.errors import ModelError
from pipeline.terms.vocabulary import Isa

PAIRS = np.stack([np.arange(256) & 15, np.arange(256) >> 4], axis=1).astype(np.float32)
"""Byte -> the two codes in it, the first in the lower half."""


def takes_int4(outputs: int) -> bool:
    """Return whether a layer's weight can be packed: two outputs share a byte."""
    return outputs % 2 == 0


def apply(model: ir.Model, weights: Mapping[str, Blocks], isa: Isa = "avx2") -> int:
    """Pack the int8 weights of these layers. Returns the number of weights.

    ``weights``: those of the layers, outputs × inputs, by module. Raises ModelError if a product's
    int8 weight is not what they give.
    """
    unpacked = set[ir.Value]()
    for product in list(model.graph):
        module = product.metadata_props.get("module") or ""
        table = weights.get(module)
        if table is None or product.op_type != "MatMulIntegerToFloat":
            continue
        weight = product.inputs[1]
        if weight in unpacked:  # a layer that is used several times
            continue
        integers = array(weight)
        scales = weight_scales(table.values().T, isa)
        steps = (table.scales / scales[:, None]).astype(np.float32)
        expected = int8_weight(table, steps)
        if weight is None or integers is None or np.abs(expected - integers).max() > 1:
            raise ModelError(f"export: the weights of {module} in int4 are of another network")
        unpack = _unpacked(model, module, table, steps)
        model.graph.insert_before(product, unpack)
        output = unpack[-1].outputs[0]
        replace(weight, output)  # for products of constants, too
        unpacked.add(output)
    return len(unpacked)


def int8_weight(table: Blocks, steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the int8 weight (inputs, outputs) that the graph computes.

    ``steps``: the scale of each block over that of its output, (outputs, blocks).
    """
    columns = table.codes.shape[1]
    zeros = blockwise.spread(table.zeros, columns)
    scaled = (table.codes - zeros) * blockwise.spread(steps, columns)
    weight: NDArray[np.float32] = np.rint(scaled).T
    return weight


def _unpacked(
    model: ir.Model, module: str, table: Blocks, steps: NDArray[np.float32]
) -> list[ir.Node]:
    """Return the nodes of which the last gives the int8 weight, inputs × outputs."""
    outputs, inputs = table.codes.shape
    blocks = table.scales.shape[1]
    codes = np.pad(table.codes, ((0, 0), (0, -inputs % BLOCK))).T
    form = np.array((blocks, BLOCK, outputs))
    block_shape = constant(model, f"int4.form.{blocks}.{outputs}", form)
    packed = constant(model, f"{module}.int4", blockwise.packed(codes))
    bytes_ = node("Cast", [packed], to=ir.DataType.INT32)
    byte_table = constant(model, "int4.pairs", PAIRS)
    pairs = node("Gather", [byte_table, bytes_])
    parted = node("Reshape", [pairs, block_shape])
    zeros = np.ascontiguousarray(table.zeros.T[:, None])
    zero_codes = constant(model, f"{module}.zero", zeros)
    zero = node("Cast", [zero_codes], to=ir.DataType.FLOAT)
    shifted = node("Sub", [parted, zero])
    columns = np.ascontiguousarray(steps.T[:, None])
    step = constant(model, f"{module}.steps", columns)
    scaled = node("Mul", [shifted, step])
    whole = integers(model, f"int4.whole.{outputs}", [-1, outputs])
    joined = node("Reshape", [scaled, whole])
    nodes = [bytes_, pairs, parted, zero, shifted, scaled, joined]
    if inputs % BLOCK:  # the last block is of fewer inputs
        start = integers(model, "int4.at.0", [0])
        end = integers(model, f"int4.at.{inputs}", [inputs])
        nodes.append(node("Slice", [joined, start, end, start]))
    rounded = node("Round", [nodes[-1].outputs[0]])
    narrow = node("Cast", [rounded], to=ir.DataType.INT8)
    return [*nodes, rounded, narrow]
