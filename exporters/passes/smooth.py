"""Divide inputs of integer products by factors of the plan, and multiply the weights' rows by them.

Some channels of an input may be far larger than the others, which then get few of the 256 integers.
The factors move part of that range into the weights, which have a scale per column. Xiao et al.
2022, "SmoothQuant" (arXiv 2211.10438). Nothing changes before rounding.

Where all that a normalization feeds are products with the same factors, as in models that normalize
before attention, the division is folded into its weights and costs nothing. In models that
normalize after it, the residual reads the same value, and the division is one more node; so is that
of what an activation function or attention gives.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporters.passes.graph import array, constant, consumers, node
from exporters.passes.integer_matmul import planned
from exporters.passes.residual import NORMALIZATIONS
from pipeline.model.quantization import Plan


def apply(model: ir.Model, plan: Plan) -> int:
    """Divide and multiply where the plan has factors. Returns the number of products."""
    smoothed = [
        (product, layer.factors, source, held)
        for product, layer, source, held in planned(model, plan)
        if layer.factors is not None
    ]
    readers = {product: factors for product, factors, _, _ in smoothed}
    divided: dict[tuple[ir.Value, tuple[float, ...]], ir.Value] = {}
    for product, factors, source, held in smoothed:
        weight, key = product.inputs[1], (source, factors)
        assert weight is not None
        if key not in divided:
            alone = all(readers.get(reader) == factors for reader in consumers(source))
            folded = alone and not source.is_graph_output() and _fold(model, source, factors)
            divided[key] = source if folded else _divide(model, product, source, factors)
        rows = np.array(factors, np.float32)[:, None]
        product.replace_input_with(0, divided[key])
        product.replace_input_with(1, constant(model, f"{weight.name}.smooth", held * rows))
    return len(smoothed)


def _fold(model: ir.Model, value: ir.Value, factors: tuple[float, ...]) -> bool:
    """Divide the constants of a normalization that gives the value; return False if none does."""
    made = value.producer()
    if made is None or made.op_type not in (*NORMALIZATIONS, "Mul"):
        return False
    held = {at: array(operand) for at, operand in enumerate(made.inputs)}
    scales = {
        at: numbers
        for at, numbers in held.items()
        if numbers is not None and numbers.shape == (len(factors),)
    }
    if not scales:
        return False
    for at, numbers in scales.items():
        name = f"{value.name}.{at}.smooth"
        made.replace_input_with(at, constant(model, name, numbers / np.array(factors, np.float32)))
    return True


def _divide(
    model: ir.Model, product: ir.Node, source: ir.Value, factors: tuple[float, ...]
) -> ir.Value:
    name = f"{product.metadata_props['module']}.input.smooth"
    inverse = constant(model, name, 1 / np.array(factors, np.float32))
    division = node("Mul", [source, inverse], like=source)
    division.outputs[0].shape = source.shape
    model.graph.insert_before(product, division)
    return division.outputs[0]
