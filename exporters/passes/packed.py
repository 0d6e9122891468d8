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

from exporters.passes.graph import array, constant, node, replace
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
        made = weights.get(product.metadata_props.get("module") or "")
        if made is None or product.op_type != "MatMulIntegerToFloat":
            continue
        module, weight = product.metadata_props["module"], product.inputs[1]
        if weight in unpacked:  # a layer that is used several times
            continue
        held = array(weight)
        steps = (made.scales / weight_scales(made.values().T, isa)[:, None]).astype(np.float32)
        if weight is None or held is None or np.abs(_numbers(made, steps) - held).max() > 1:
            raise ModelError(f"export: the weights of {module} in int4 are of another network")
        unpack = _unpacked(model, module, made, steps)
        model.graph.insert_before(product, unpack)
        replace(weight, unpack[-1].outputs[0])  # for products of constants, too
        unpacked.add(unpack[-1].outputs[0])
    return len(unpacked)


def _numbers(made: Blocks, steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the int8 weight (inputs × outputs) that the graph computes."""
    columns = made.codes.shape[1]
    spread, zeros = (
        np.repeat(each.astype(np.float32), BLOCK, axis=1)[:, :columns]
        for each in (steps, made.zeros)
    )
    found: NDArray[np.float32] = np.rint((made.codes - zeros) * spread).T
    return found


def _unpacked(
    model: ir.Model, module: str, made: Blocks, steps: NDArray[np.float32]
) -> list[ir.Node]:
    """Return the nodes of which the last gives the int8 weight, inputs × outputs."""
    outputs, inputs = made.codes.shape
    blocks = made.scales.shape[1]
    codes = np.pad(made.codes, ((0, 0), (0, -inputs % BLOCK))).T
    form = (blocks, BLOCK, outputs)
    each = constant(model, f"int4.form.{blocks}.{outputs}", np.array(form))
    bytes_ = node(
        "Cast", [constant(model, f"{module}.int4", blockwise.packed(codes))], to=ir.DataType.INT32
    )
    pairs = node("Gather", [constant(model, "int4.pairs", PAIRS), bytes_.outputs[0]])
    parted = node("Reshape", [pairs.outputs[0], each])
    zeros = np.ascontiguousarray(made.zeros.T[:, None])
    zero = node("Cast", [constant(model, f"{module}.zero", zeros)], to=ir.DataType.FLOAT)
    shifted = node("Sub", [parted.outputs[0], zero.outputs[0]])
    step = constant(model, f"{module}.steps", np.ascontiguousarray(steps.T[:, None]))
    scaled = node("Mul", [shifted.outputs[0], step])
    whole = constant(model, f"int4.whole.{outputs}", np.array([-1, outputs]))
    joined = node("Reshape", [scaled.outputs[0], whole])
    found = [bytes_, pairs, parted, zero, shifted, scaled, joined]
    if inputs % BLOCK:  # the last block is of fewer inputs
        ends = [constant(model, f"int4.at.{at}", np.array([at])) for at in (0, inputs)]
        found.append(node("Slice", [joined.outputs[0], *ends, ends[0]]))
    rounded = node("Round", [found[-1].outputs[0]])
    return [*found, rounded, node("Cast", [rounded.outputs[0]], to=ir.DataType.INT8)]
