"""Add the corrections of the plan to the biases of integer products, where they cost nothing.

Rounding a weight and its inputs moves a product's mean, and the next layers pass that on. Nagel et
al. 2019 (arXiv 1906.04721, section 4.2) add the mean that is lost to the bias.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporters.passes.graph import array, constant, node, only_consumer, replace, varies
from exporters.passes.integer_matmul import planned
from exporters.passes.scale import FACTOR
from pipeline.model.quantization import Plan


def apply(model: ir.Model, plan: Plan) -> int:
    """Correct the products that have a correction. Returns their number."""
    count = 0
    for product, layer, source, _ in planned(model, plan):
        if layer.correction is None or not varies(source):  # nothing rounds a constant
            continue
        count += 1
        module = product.metadata_props["module"]
        factor = float(product.metadata_props.get(FACTOR, 1))
        lost = np.array(layer.correction, np.float32) * np.float32(factor)
        adding = only_consumer(product.outputs[0], "Add")
        at = 1 if adding is not None and adding.inputs[0] is product.outputs[0] else 0
        bias = array(adding.inputs[at]) if adding is not None else None
        if adding is not None and bias is not None and bias.ndim == 1:
            adding.replace_input_with(at, constant(model, f"{module}.corrected", bias + lost))
            continue
        output = product.outputs[0]
        made = node("Add", [None, constant(model, f"{module}.corrected", lost)], like=output)
        made.outputs[0].shape = output.shape
        model.graph.insert_after(product, made)
        replace(output, made.outputs[0])
        made.replace_input_with(0, output)
    return count
