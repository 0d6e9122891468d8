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

from rarefy.exporters.passes.graph import (
    MICROSOFT,
    array,
    constant,
    node,
    only_consumer,
    replace,
    varies,
)
from rarefy.pipeline.model.quantization.plan import LARGEST, LinearPlan, Plan, weight_scales
from rarefy.pipeline.terms.recipe_parts import Isa


def apply(model: ir.Model, plan: Plan, isa: Isa = "avx2") -> int:
    """Rewrite the layers that are int8 in the plan. Returns their number.

    ``isa``: the CPUs on which products must be exact; see ``plan.weight_scales``.
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
            module = product.metadata_props["module"]
            quantizer, values = _quantizer(model, source, layer, module)
            model.graph.insert_before(product, quantizer)
            quantizers[key] = values
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
        source = product.inputs[0]
        held = array(product.inputs[1])
        assert source is not None
        assert held is not None
        yield product, layer, source, held


def quantize_weight(
    weight: NDArray[np.float32], isa: Isa
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8 weights (inputs × outputs) and scales, symmetric, one scale per column."""
    scale = weight_scales(weight, isa)
    numbers = np.clip(np.rint(weight / scale), -LARGEST, LARGEST)
    return numbers.astype(np.int8), scale


def uint8_range(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """Return the uint8 scale and zero point for a range, which is widened to include zero."""
    low = min(low, 0.0)
    high = max(high, 0.0)
    scale = max((high - low) / 255, 1e-12)
    zero = np.clip(round(-low / scale), 0, 255)
    return np.float32(scale), np.uint8(zero)


def _store_weight(model: ir.Model, product: ir.Node, weight: NDArray[np.float32], isa: Isa) -> None:
    """Multiply by the int8 weight, converted to float by nodes that the runtime folds."""
    numbers, scales = quantize_weight(weight, isa)
    name = _weight_name(product)
    integers = constant(model, f"{name}.int8", numbers)
    wide = node("Cast", [integers], to=ir.DataType.FLOAT)
    scale = constant(model, f"{name}.scale", scales)
    scaled = node("Mul", [wide, scale], like=product.inputs[1])
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
    name = _weight_name(product)
    bias, adding = _bias(product)
    last = adding or product
    columns = constant(model, f"{name}.int8", numbers)
    column_scales = constant(model, f"{name}.scale", scales)
    output = last.outputs[0]
    fused = node(
        "MatMulIntegerToFloat",
        [integers, columns, scale, column_scales, zero, None, bias],
        like=output,
        domain=MICROSOFT,
    )
    fused.outputs[0].shape = output.shape
    fused.metadata_props.update(product.metadata_props)
    model.graph.insert_before(last, fused)
    output_name = output.name
    replace(output, fused.outputs[0])
    output.name = None
    fused.outputs[0].name = output_name
    if adding is not None:
        model.graph.remove(adding, safe=True)
    model.graph.remove(product, safe=True)


def _bias(product: ir.Node) -> tuple[ir.Value | None, ir.Node | None]:
    """Return the bias that is added to a product, and the node that adds it; None without one."""
    adding = only_consumer(product.outputs[0], "Add")
    if adding is None:
        return None, None
    at = 0
    if adding.inputs[0] is product.outputs[0]:
        at = 1
    numbers = array(adding.inputs[at])
    if numbers is None or numbers.ndim != 1:
        return None, None
    return adding.inputs[at], adding


def _weight_name(product: ir.Node) -> str | None:
    weight = product.inputs[1]
    return weight.name if weight is not None else None
