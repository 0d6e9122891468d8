"""Fold the factor 1/√d of attention scores into the query's weights: one node per layer less.

softmax(s · (xW + b)Kᵀ) = softmax((x(sW) + sb)Kᵀ).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporters.passes.graph import array, constant, only_consumer, producer, replace, scalar

FACTOR = "factor"
"""The metadata of a product: what its outputs are multiplied by, besides what its module does."""


def apply(model: ir.Model) -> int:
    """Fold each scalar that multiplies query · key into the query's layer. Returns a count."""
    count = 0
    for scaling in list(model.graph):
        if scaling.op_type not in ("Mul", "Div") or scaling.inputs[0] is None:
            continue
        factor = scalar(scaling.inputs[1])
        scores = scaling.inputs[0].producer()
        if factor is None or scores is None or scores.op_type != "MatMul":
            continue
        layer = _linear_before(scores.inputs[0])
        if layer is None or only_consumer(scores.outputs[0], scaling.op_type) is None:
            continue
        product, adding = layer
        if scaling.op_type != "Mul":
            factor = 1 / factor
        for owner, at in ((product, 1), (adding, _bias_at(adding))):
            value = owner.inputs[at]
            held = array(value)
            assert value is not None
            assert held is not None
            scaled = constant(model, f"{value.name}.scaled", (held * factor).astype(np.float32))
            owner.replace_input_with(at, scaled)
        before = float(product.metadata_props.get(FACTOR, 1))
        product.metadata_props[FACTOR] = repr(float(before * factor))
        replace(scaling.outputs[0], scores.outputs[0])
        model.graph.remove(scaling, safe=True)
        count += 1
    return count


def _linear_before(value: ir.Value | None) -> tuple[ir.Node, ir.Node] | None:
    """Return the MatMul and Add that compute a query, or None if other nodes read them."""
    while value is not None:
        source = value.producer()
        if source is None or len(list(value.uses())) != 1:
            return None
        if source.op_type == "Add":
            at = _bias_at(source)
            product = producer(source.inputs[1 - at])
            if product is None or "module" not in product.metadata_props:
                return None
            if array(source.inputs[at]) is None:
                return None
            return product, source
        if source.op_type not in ("Reshape", "Transpose"):
            return None
        value = source.inputs[0]
    return None


def _bias_at(adding: ir.Node) -> int:
    if array(adding.inputs[1]) is not None:
        return 1
    return 0
