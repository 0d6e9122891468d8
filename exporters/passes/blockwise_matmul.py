"""Rewrite linear layers as products with weights of 4 bits, following the quantization plan.

``MatMul + Add`` becomes ONNX Runtime's ``MatMulNBits``: blocks of neighbours along the inputs share
a scale and a zero point. The operator rounds its inputs to int8 itself, each block of a row with a
scale of its own, so it needs no calibration, and a row's answer does not depend on its neighbours.
Products of 4 and 8 bits do not saturate 16: they are right on every CPU.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from exporters.passes.graph import MICROSOFT, constant, node
from exporters.passes.integer_matmul import bias_of, planned, put_in_place
from exporters.passes.scale import FACTOR
from pipeline.model import blockwise
from pipeline.model.blockwise import BLOCK, Blocks
from pipeline.model.quantization import Plan

INT8_INPUTS = 4
"""The operator's ``accuracy_level`` at which inputs are rounded to int8; 1 leaves them float."""


def apply(model: ir.Model, plan: Plan, weights: Mapping[str, Blocks]) -> int:
    """Rewrite the layers that are int4 in the plan. Returns their number.

    ``weights``: those of the layers, outputs × inputs, by module.
    """
    count = 0
    for product, _, source, held in planned(model, plan, "int4"):
        module, factor = product.metadata_props["module"], product.metadata_props.get(FACTOR)
        made, scale = weights[module], f"{module}.scale"
        scales = made.scales
        if factor is not None:
            scale, scales = f"{scale}.scaled", np.float32(factor) * scales
        inputs, outputs = held.shape
        codes = np.pad(made.codes, ((0, 0), (0, -inputs % BLOCK)))
        bias, last = bias_of(product)
        fused = node(
            "MatMulNBits",
            [
                source,
                constant(
                    model,
                    f"{module}.int4",
                    blockwise.packed(codes).reshape(outputs, -1, BLOCK // 2),
                ),
                constant(model, scale, scales),
                constant(model, f"{module}.zero", blockwise.packed(made.zeros)),
                None,
                bias,
            ],
            like=last.outputs[0],
            domain=MICROSOFT,
            K=inputs,
            N=outputs,
            bits=4,
            block_size=BLOCK,
            accuracy_level=INT8_INPUTS,
        )
        put_in_place(model, fused, product, last)
        count += 1
    return count
