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

from exporters.passes.graph import array, constant, consumers, node, producer
from exporters.passes.integer_matmul import planned
from exporters.passes.residual import NORMALIZATIONS
from pipeline.model.quantization import Plan


def apply(model: ir.Model, plan: Plan) -> int:
    """Divide and multiply where the plan has factors. Returns the number of products."""
    smoothed = []
    readers = {}
    for product, layer, source, numbers in planned(model, plan):
        if layer.factors is not None:
            smoothed.append((product, layer.factors, source, numbers))
            readers[product] = layer.factors
    divided: dict[tuple[ir.Value, tuple[float, ...]], ir.Value] = {}
    for product, factors, source, numbers in smoothed:
        weight = product.inputs[1]
        key = (source, factors)
        assert weight is not None
        if key not in divided:
            alone = all(readers.get(reader) == factors for reader in consumers(source))
            if alone and not source.is_graph_output() and _fold(model, source, factors):
                divided[key] = source
            else:
                divided[key] = _divide(model, product, source, factors)
        rows = np.array(factors, np.float32)[:, None]
        scaled = constant(model, f"{weight.name}.smooth", numbers * rows)
        product.replace_input_with(0, divided[key])
        product.replace_input_with(1, scaled)
    return len(smoothed)


def _fold(model: ir.Model, value: ir.Value, factors: tuple[float, ...]) -> bool:
    """Divide the constants of a normalization that gives the value; return False if none does."""
    source = producer(value, *NORMALIZATIONS, "Mul")
    if source is None:
        return False
    divisors = np.array(factors, np.float32)
    folded = False
    for at, operand in enumerate(source.inputs):
        numbers = array(operand)
        if numbers is not None and numbers.shape == divisors.shape:
            divided = constant(model, f"{value.name}.{at}.smooth", numbers / divisors)
            source.replace_input_with(at, divided)
            folded = True
    return folded


def _divide(
    model: ir.Model, product: ir.Node, source: ir.Value, factors: tuple[float, ...]
) -> ir.Value:
    name = f"{product.metadata_props['module']}.input.smooth"
    inverse = constant(model, name, 1 / np.array(factors, np.float32))
    division = node("Mul", [source, inverse], like=source)
    division.outputs[0].shape = source.shape
    model.graph.insert_before(product, division)
    return division.outputs[0]
