"""Time the products of linear layers that read one value, in float and in forms of int8."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from rarefy.exporters import saving
from rarefy.exporters.passes import integer_matmul, smooth
from rarefy.exporters.passes.graph import constant, node
from rarefy.pipeline.measure.latency.timer import TIMER
from rarefy.pipeline.model.quantization.plan import LinearPlan, Plan

BLOCK, BLOCKS, LEAD = 20, 5, 4
TIMES = 3
STEADY = 1.25
"""The most that a form's median of blocks may be of its fastest block."""
OPSET = {"": 20, "com.microsoft": 1}


def block_median(session: Any, feed: dict[str, Any]) -> float:
    """Return the median in ms of a block of calls; the first ones warm up and do not count."""
    times = TIMER.time_calls(lambda: session.run(None, feed), BLOCK, LEAD)
    return float(np.median(times))


def milliseconds(
    inputs: int,
    outputs: Sequence[int],
    tokens: int,
    forms: Mapping[str, LinearPlan | None],
    threads: int,
    timer: Callable[[Any, dict[str, Any]], float] = block_median,
) -> dict[str, float]:
    """Return the time in ms of each form of a group of layers.

    ``inputs``: the width of the value that they read; ``outputs``: their widths; ``forms``: how all
    of them are rounded, None for float. Forms take turns in blocks of calls; a time is the median
    of the blocks' medians. If those of a form are far apart, because something else slowed them
    down, all are timed again, at most twice. Weights lie in the caches, which those of a whole
    large model do not.
    """
    random = np.random.default_rng(0)
    feed = {"x": random.standard_normal((1, tokens, inputs)).astype(np.float32)}
    names = list(forms)
    sessions = {}
    for form, layer in forms.items():
        graph = _graph(inputs, outputs, layer)
        sessions[form] = saving.session(graph, _options(threads))
    for _ in range(TIMES):
        medians: dict[str, list[float]] = {form: [] for form in names}
        for _ in range(BLOCKS):
            for at in random.permutation(len(names)).tolist():
                median = timer(sessions[names[at]], feed)
                medians[names[at]].append(median)
        if all(np.median(times) <= STEADY * min(times) for times in medians.values()):
            break
    return {form: float(np.median(times)) for form, times in medians.items()}


def _options(threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return options


def _graph(inputs: int, outputs: Sequence[int], layer: LinearPlan | None) -> ir.Model:
    random = np.random.default_rng(1)
    kind = ir.TensorType(ir.DataType.FLOAT)
    value = ir.Value(name="x", shape=ir.Shape([1, "tokens", inputs]), type=kind)
    model = ir.Model(ir.Graph([value], [], nodes=[], opset_imports=OPSET), ir_version=10)
    for at, width in enumerate(outputs):
        numbers = random.standard_normal((inputs, width)).astype(np.float32)
        weight = constant(model, f"w{at}", numbers)
        product = node("MatMul", [value, weight], like=value)
        product.metadata_props["module"] = f"m{at}"
        bias = constant(model, f"b{at}", np.ones(width, np.float32))
        adding = node("Add", [product, bias], like=value)
        adding.outputs[0].name = f"y{at}"
        model.graph.extend([product, adding])
        model.graph.outputs.append(adding.outputs[0])
    if layer is not None:
        linears = {f"m{at}": layer for at in range(len(outputs))}
        plan = Plan.model_validate({"linears": linears})
        smooth.apply(model, plan)
        integer_matmul.apply(model, plan)
    return model
