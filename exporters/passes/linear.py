"""Rewrite linear layers as MatMul + Add with a weight of inputs × outputs, named by module.

PyTorch exports MatMul + Add for three axes and Gemm for two. With one form, the other passes only
need to match one pattern.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporters.passes.graph import array, constant, node, replace


def apply(model: ir.Model) -> int:
    """Rewrite each Gemm and name each weight. Returns the number of linear layers."""
    count = 0
    for layer in list(model.graph):
        module = layer.metadata_props.get("module")
        if module is None or layer.op_type not in ("MatMul", "Gemm"):
            continue
        count += 1
        held = array(layer.inputs[1])
        assert held is not None
        if layer.attributes.get_int("transB", 0):
            held = held.T
        weight = constant(model, f"{module}.weight.T", np.ascontiguousarray(held))
        if layer.op_type == "MatMul":
            layer.replace_input_with(1, weight)
            continue
        product = node("MatMul", [layer.inputs[0], weight], like=layer.outputs[0])
        product.metadata_props["module"] = module
        steps = [product]
        if len(layer.inputs) > 2 and layer.inputs[2] is not None:
            steps.append(node("Add", [product, layer.inputs[2]], like=layer.outputs[0]))
        steps[-1].outputs[0].shape = layer.outputs[0].shape
        model.graph.insert_before(layer, steps)
        name = layer.outputs[0].name
        replace(layer.outputs[0], steps[-1].outputs[0])
        layer.outputs[0].name = None
        steps[-1].outputs[0].name = name
        model.graph.remove(layer, safe=True)
    return count
