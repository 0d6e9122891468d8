"""Write int8 linear layers as pairs of QuantizeLinear and DequantizeLinear, known everywhere.

The inputs of a ``MatMul`` are rounded to integers and taken back; runtimes know the pattern and
compute the product in integers: TensorRT, OpenVINO, and ONNX Runtime above the level ``basic``.
ONNX Runtime's own ``MatMulIntegerToFloat``, which is faster there, is in none of the others.

Ranges must be known beforehand, so the plan must be static. TensorRT takes zero as the zero point
only, so a range is widened until it has it there. ``quantize`` does so itself, and simulates it, if
int8 is for TensorRT alone: nothing is left to widen then.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporters.passes.graph import constant, node, varies
from exporters.passes.integer_matmul import planned, quantize_weight, uint8_range
from pipeline.model.quantization import LARGEST, LinearPlan, Plan
from pipeline.terms.vocabulary import Isa


def apply(model: ir.Model, plan: Plan, isa: Isa = "avx2", *, symmetric: bool = False) -> int:
    """Rewrite the layers that are int8 in the plan, which must be static. Returns their number."""
    rounded: dict[tuple[ir.Value, float, float], ir.Value] = {}
    count = 0
    for product, layer, source, floats in planned(model, plan):
        weight = product.inputs[1]
        assert weight is not None
        assert layer.low is not None
        assert layer.high is not None
        count += 1
        key = (source, layer.low, layer.high)
        if varies(source) and key not in rounded:
            module = product.metadata_props["module"]
            pair = _pair(model, source, layer, module, symmetric)
            model.graph.insert_before(product, pair)
            rounded[key] = pair[-1].outputs[0]
        numbers, scales = quantize_weight(floats, isa)
        integers = constant(model, f"{weight.name}.int8", numbers)
        scale = constant(model, f"{weight.name}.scale", scales)
        zeros = constant(model, f"{weight.name}.zero", np.zeros(len(scales), np.int8))
        wide = node("DequantizeLinear", [integers, scale, zeros], like=weight, axis=1)
        wide.outputs[0].shape = weight.shape
        model.graph.insert_before(product, wide)
        product.replace_input_with(0, rounded.get(key, source))
        product.replace_input_with(1, wide.outputs[0])
    return count


def _pair(
    model: ir.Model, source: ir.Value, layer: LinearPlan, module: str, symmetric: bool
) -> list[ir.Node]:
    """Return the two nodes that round a value to integers and take it back."""
    assert layer.low is not None
    assert layer.high is not None
    scale, zero = uint8_range(layer.low, layer.high)
    grid = np.array(zero)
    if symmetric:
        below = -layer.low / (LARGEST + 1)
        above = layer.high / LARGEST
        scale = np.float32(max(below, above, 1e-12))
        grid = np.array(0, np.int8)
    step = constant(model, f"{module}.input.scale", np.array(scale))
    zero_point = constant(model, f"{module}.input.zero", grid)
    down = node("QuantizeLinear", [source, step, zero_point])
    up = node("DequantizeLinear", [down, step, zero_point], like=source)
    up.outputs[0].shape = source.shape
    return [down, up]
