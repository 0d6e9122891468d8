"""Half precision for GPUs, with ONNX Runtime's own converter."""

from __future__ import annotations

import onnx_ir as ir

from exporters.passes.graph import constant


def apply(model: ir.Model) -> ir.Model:
    """Return the graph in fp16; inputs and logits keep their types.

    The mask's lowest number is replaced by the lowest that fp16 can represent. Otherwise it would
    become -inf, and a padded row NaN.
    """
    import numpy as np
    from onnxruntime.transformers.float16 import convert_float_to_float16

    lowest = model.graph.initializers.get("mask.lowest")
    if lowest is not None:
        smaller = constant(model, "mask.lowest.half", np.array(-65504, dtype=np.float32))
        ir.convenience.replace_all_uses_with(lowest, smaller)
        del model.graph.initializers["mask.lowest"]
    # The graph already has its shapes; inferring them again fails on com.microsoft's operators.
    converted = convert_float_to_float16(
        ir.to_proto(model), keep_io_types=True, disable_shape_infer=True
    )
    half: ir.Model = ir.from_proto(converted)
    return half
