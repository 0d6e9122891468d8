"""Write normalizations that a model computes from plain operators as one operator each.

RMSNorm, w · x / √(mean(x²) + ε), has six nodes in a trace and becomes ONNX Runtime's
``SimplifiedLayerNormalization``. A layer norm that a model writes out itself (DeBERTa's first
version) becomes ``LayerNormalization``.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporters.passes.graph import (
    array,
    constant,
    node,
    only_consumer,
    producer,
    replace,
    scalar,
)


def apply(model: ir.Model) -> int:
    """Rewrite each normalization over the last axis. Returns their number."""
    count = 0
    for mean in list(model.graph):
        match = _root(mean)
        if match is None:
            continue
        centred, epsilon, last = match
        source = _minuend(centred)
        size = _width(centred)
        if size is None:
            continue
        operands, last = _affine(last, size, biased=source is not None)
        weight = operands[0] or constant(model, f"ones.{size}", np.ones(size, dtype=np.float32))
        operator = "LayerNormalization"
        if source is None:
            operator = "SimplifiedLayerNormalization"
        fused = node(
            operator,
            [source or centred, weight, *operands[1:]],
            like=last.outputs[0],
            axis=-1,
            epsilon=epsilon,
            stash_type=1,
        )
        fused.outputs[0].shape = last.outputs[0].shape
        model.graph.insert_after(last, fused)
        replace(last.outputs[0], fused.outputs[0])
        count += 1
    return count


def _root(mean: ir.Node) -> tuple[ir.Value, float, ir.Node] | None:
    """Match c / √(mean(c²) + ε) from its mean. Returns c, ε and the node of the quotient."""
    if mean.op_type != "ReduceMean" or not _over_last_axis(mean) or mean.inputs[0] is None:
        return None
    square = producer(mean.inputs[0], "Pow")
    if square is None or scalar(square.inputs[1]) != 2:
        return None
    centred = square.inputs[0]
    adding = only_consumer(mean.outputs[0], "Add")
    root = adding and only_consumer(adding.outputs[0], "Sqrt")
    if adding is None or not root or centred is None:
        return None
    epsilons = [scalar(value) for value in adding.inputs if value is not mean.outputs[0]]
    inverse = only_consumer(root.outputs[0], "Reciprocal")
    if inverse is not None:
        quotient = only_consumer(inverse.outputs[0], "Mul")
    else:
        quotient = only_consumer(root.outputs[0], "Div")
    if quotient is None or len(epsilons) != 1 or epsilons[0] is None:
        return None
    divided = inverse is None and quotient.inputs[0] is centred
    multiplied = inverse is not None and any(value is centred for value in quotient.inputs)
    if divided or multiplied:
        return (centred, epsilons[0], quotient)
    return None


def _over_last_axis(mean: ir.Node) -> bool:
    if len(mean.inputs) < 2:
        return False
    axes = array(mean.inputs[1])
    if axes is None or axes.tolist() != [-1]:
        return False
    return mean.attributes.get_int("keepdims", 1) == 1


def _minuend(centred: ir.Value) -> ir.Value | None:
    """Return x if a value is x - mean(x) over the last axis, else None."""
    minus = producer(centred, "Sub")
    if minus is None:
        return None
    mean = producer(minus.inputs[1], "ReduceMean")
    if mean is None or not _over_last_axis(mean):
        return None
    if mean.inputs[0] is minus.inputs[0]:
        return minus.inputs[0]
    return None


def _width(value: ir.Value) -> int | None:
    if value.shape is None or not len(value.shape):
        return None
    size = value.shape[-1]
    if isinstance(size, int):
        return size
    return None


def _is_vector(value: ir.Value | None, size: int) -> bool:
    if value is None or value.shape is None:
        return False
    return list(value.shape) == [size]


def _affine(last: ir.Node, size: int, *, biased: bool) -> tuple[list[ir.Value | None], ir.Node]:
    """Return the weight and bias that follow (None if missing), and the last node of them."""
    operands: list[ir.Value | None] = []
    for op in ("Mul", "Add") if biased else ("Mul",):
        following = only_consumer(last.outputs[0], op)
        if following is None:
            break
        vectors = [value for value in following.inputs if _is_vector(value, size)]
        if len(vectors) != 1:
            break
        operands.append(vectors[0])
        last = following
    return operands or [None], last
