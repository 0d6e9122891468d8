"""Rewrite linear layers as fused integer matrix products, following the quantization plan.

``MatMul + Add`` becomes a quantizer and ONNX Runtime's ``MatMulIntegerToFloat``: uint8 inputs with
one scale and zero point, int8 weights with one scale per output channel, int32 sums, and float
results with the bias added, in one kernel. Layers that read the same value share its quantizer.
The fusion is done here because the runtime's pattern matching loses fusions silently.

A layer may also multiply constants: DeBERTa's keys and queries of relative positions. Such a
product stays float, and only its weight is stored as int8: the runtime then computes it once, when
it loads the graph, and not at every call.

The quantizer is ``DynamicQuantizeLinear`` (the range of each input, found at run time) or
``QuantizeLinear`` with the range found by calibration, which needs no ReLU before it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from exporters.passes.graph import MICROSOFT, array, constant, node, only_consumer, replace, varies
from pipeline.model.quantization import LARGEST, LinearPlan, Plan, weight_scales
from pipeline.terms.vocabulary import Isa


def apply(model: ir.Model, plan: Plan, isa: Isa = "avx2") -> int:
    """Rewrite the layers that are int8 in the plan. Returns their number.

    ``isa``: the CPUs on which products must be exact; see ``quantization.weight_scales``.
    """
    quantizers: dict[tuple[ir.Value, float | None, float | None], list[ir.Value]] = {}
    count = 0
    for product, layer, source, held in planned(model, plan):
        count += 1
        if not varies(source):
            _store_weight(model, product, held, isa)
            continue
        key = (source, layer.low, layer.high)
        if key not in quantizers:
            made, triple = _quantizer(model, source, layer, product.metadata_props["module"])
            model.graph.insert_before(product, made)
            quantizers[key] = triple
        _replace_product(model, product, quantizers[key], held, isa)
    return count


def planned(
    model: ir.Model, plan: Plan
) -> Iterator[tuple[ir.Node, LinearPlan, ir.Value, NDArray[np.float32]]]:
    """Yield the products that are integer in the plan: node, layer, input and weight of each."""
    integer = plan.integer_layers
    for product in list(model.graph):
        layer = integer.get(product.metadata_props.get("module") or "")
        if layer is None or product.op_type != "MatMul":
            continue
        source, held = product.inputs[0], array(product.inputs[1])
        assert source is not None
        assert held is not None
        yield product, layer, source, held


def quantize_weight(
    weight: NDArray[np.float32], isa: Isa
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8 weights (inputs × outputs) and scales, symmetric, one scale per column."""
    scale = weight_scales(weight, isa)
    return np.clip(np.rint(weight / scale), -LARGEST, LARGEST).astype(np.int8), scale


def uint8_range(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """Return the uint8 scale and zero point for a range, which is widened to include zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / 255, 1e-12)
    return np.float32(scale), np.uint8(np.clip(round(-low / scale), 0, 255))


def _store_weight(model: ir.Model, product: ir.Node, weight: NDArray[np.float32], isa: Isa) -> None:
    """Multiply by the int8 weight, converted to float by nodes that the runtime folds."""
    numbers, scales = quantize_weight(weight, isa)
    name = product.inputs[1].name if product.inputs[1] else None
    wide = node("Cast", [constant(model, f"{name}.int8", numbers)], to=ir.DataType.FLOAT)
    scale = constant(model, f"{name}.scale", scales)
    scaled = node("Mul", [wide.outputs[0], scale], like=product.inputs[1])
    model.graph.insert_before(product, [wide, scaled])
    product.replace_input_with(1, scaled.outputs[0])


def _quantizer(
    model: ir.Model, source: ir.Value, layer: LinearPlan, module: str
) -> tuple[ir.Node, list[ir.Value]]:
    """Return the quantizer's node and three values: integers, scale and zero point."""
    if layer.low is None or layer.high is None:
        dynamic = node("DynamicQuantizeLinear", [source], outputs=3)
        return dynamic, list(dynamic.outputs)
    scale, zero = uint8_range(layer.low, layer.high)
    before = source.producer()
    if not zero and before is not None and before.op_type == "Relu":
        source = before.inputs[0] or source  # rounding to unsigned integers clips by itself
    scale_value = constant(model, f"{module}.input.scale", np.array(scale))
    zero_value = constant(model, f"{module}.input.zero", np.array(zero))
    static = node("QuantizeLinear", [source, scale_value, zero_value])
    return static, [static.outputs[0], scale_value, zero_value]


def _replace_product(
    model: ir.Model,
    product: ir.Node,
    quantized: list[ir.Value],
    weight: NDArray[np.float32],
    isa: Isa,
) -> None:
    integers, scale, zero = quantized
    numbers, scales = quantize_weight(weight, isa)
    name = product.inputs[1].name if product.inputs[1] else None
    last = product
    bias: ir.Value | None = None
    adding = only_consumer(product.outputs[0], "Add")
    if adding is not None:
        at = 1 if adding.inputs[0] is product.outputs[0] else 0
        held = array(adding.inputs[at])
        if held is not None and held.ndim == 1:
            bias, last = adding.inputs[at], adding
    fused = node(
        "MatMulIntegerToFloat",
        [
            integers,
            constant(model, f"{name}.int8", numbers),
            scale,
            constant(model, f"{name}.scale", scales),
            zero,
            None,
            bias,
        ],
        like=last.outputs[0],
        domain=MICROSOFT,
    )
    fused.outputs[0].shape = last.outputs[0].shape
    fused.metadata_props.update(product.metadata_props)
    model.graph.insert_before(last, fused)
    output = last.outputs[0].name
    replace(last.outputs[0], fused.outputs[0])
    last.outputs[0].name = None
    fused.outputs[0].name = output
    model.graph.remove([last, product] if last is not product else [product], safe=True)
