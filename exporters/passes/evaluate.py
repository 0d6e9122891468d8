"""Compute values inside a graph, so that a pass can check what it assumes about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pipeline.terms.errors import ModelError


def evaluate(
    model: ir.Model, values: Sequence[ir.Value], feeds: Sequence[dict[str, NDArray[np.int64]]]
) -> list[list[NDArray[Any]]]:
    """Return the arrays of some values of a graph for each feed.

    Only the part of the graph that computes these values runs. A feed may also name inputs that
    this part does not read. Raises ModelError if ONNX Runtime cannot run it.
    """
    import onnxruntime

    part = ir.convenience.extract(model.graph, list(model.graph.inputs), list(values))
    for output in part.outputs:
        output.shape = None  # the trace's own names of axes
    proto = ir.to_proto(ir.Model(part, ir_version=model.ir_version))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        message = proto.SerializeToString()
        providers = ["CPUExecutionProvider"]
        session = onnxruntime.InferenceSession(message, options, providers=providers)
        read = {value.name for value in session.get_inputs()}
        results = []
        for feed in feeds:
            inputs = {name: array for name, array in feed.items() if name in read}
            results.append(session.run(None, inputs))
        return results
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        names = ", ".join(str(value.name) for value in values)
        raise ModelError(f"export: {names} cannot be computed: {reason}") from error
