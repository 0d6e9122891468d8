"""Compute each attention in one operator, ONNX Runtime's ``MultiHeadAttention``.

It takes queries, keys and values as batch × tokens × width, as the linear layers give them, so the
reshapes and transposes around the two products go: twelve nodes of a layer become one. At few
tokens, the nodes were most of what was left beside the matrix products.

Attentions that are anything else than scores, a bias by position, a padding mask, a softmax and
values stay what they are: those of DeBERTa, or with rotary positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from exporters.passes.graph import MICROSOFT, array, node, only_consumer, replace, scalar

SPLIT, KEYS = [0, 2, 1, 3], [0, 2, 3, 1]
"""Axes of batch × tokens × heads × width as batch × heads × tokens × width, or with its last two
exchanged."""
LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class _Attention:
    """What one attention reads, and the value that it makes; ``last`` is the node that makes it."""

    query: ir.Value
    key: ir.Value
    value: ir.Value
    heads: int
    bias: ir.Value | None
    masked: bool
    last: ir.Node


def apply(model: ir.Model) -> int:
    """Replace every attention that can be. Returns their number."""
    found = [each for step in model.graph if (each := _match(step)) is not None]
    mask = None
    if any(each.masked for each in found):
        given = next(value for value in model.graph.inputs if value.name == "attention_mask")
        cast = node("Cast", [given], to=ir.DataType.INT32)
        model.graph.insert_before(model.graph[0], cast)
        mask = cast.outputs[0]
    for each in found:
        inputs = [each.query, each.key, each.value, None, mask if each.masked else None, each.bias]
        while inputs[-1] is None:
            inputs.pop()
        fused = node(
            "MultiHeadAttention",
            inputs,
            like=each.last.outputs[0],
            domain=MICROSOFT,
            num_heads=each.heads,
            scale=1.0,  # it is in the weights of the queries
            mask_filter_value=LOWEST,
        )
        fused.outputs[0].shape = each.last.outputs[0].shape
        model.graph.insert_before(each.last, fused)
        replace(each.last.outputs[0], fused.outputs[0])
    return len(found)


def _match(softmax: ir.Node) -> _Attention | None:
    """Return the attention around a softmax, or None if it is of another kind."""
    if softmax.op_type != "Softmax" or softmax.attributes.get_int("axis", -1) not in (-1, 3):
        return None
    scores, biases, masked = softmax.inputs[0], list[ir.Value | None](), False
    while (adding := _made_by(scores, "Add")) is not None:
        masks = [_is_mask(value) for value in adding.inputs]
        products = [_made_by(value, "MatMul", "Add") is not None for value in adding.inputs]
        if any(masks):
            masked, scores = True, adding.inputs[masks.index(False)]
        elif products == [True, False]:
            biases, scores = [*biases, *adding.inputs[1:]], adding.inputs[0]
        else:
            return None
    product = _made_by(scores, "MatMul")
    weighted = only_consumer(softmax.outputs[0], "MatMul")
    if product is None or weighted is None or len(biases) > 1:
        return None
    joined = only_consumer(weighted.outputs[0], "Transpose")
    last = only_consumer(joined.outputs[0], "Reshape") if joined is not None else None
    parts = (
        _split(product.inputs[0], SPLIT),
        _split(product.inputs[1], KEYS),
        _split(weighted.inputs[1], SPLIT),
    )
    if last is None or joined is None or _axes(joined) != SPLIT or None in parts:
        return None
    (query, width), (key, _), (value, _) = (part for part in parts if part is not None)
    hidden = query.shape[2] if query.shape is not None else None
    if not isinstance(hidden, int) or weighted.inputs[0] is not softmax.outputs[0]:
        return None
    bias = biases[0] if biases else None
    return _Attention(query, key, value, hidden // width, bias, masked, last)


def _split(value: ir.Value | None, axes: list[int]) -> tuple[ir.Value, int] | None:
    """Return what is split into heads by a reshape and a transpose, and the width of a head."""
    moved = _made_by(value, "Transpose")
    shaped = _made_by(moved.inputs[0], "Reshape") if moved is not None else None
    if moved is None or shaped is None or _axes(moved) != axes or shaped.inputs[0] is None:
        return None
    target = array(shaped.inputs[1])
    if target is None or len(target) != 4 or list(target[:2]) != [0, 0] or target[3] < 1:
        return None
    return shaped.inputs[0], int(target[3])


def _is_mask(value: ir.Value | None) -> bool:
    """Return whether a value is the padding mask that the pass ``mask`` made."""
    widened = _made_by(value, "Unsqueeze")
    penalty = _made_by(widened.inputs[0], "Mul") if widened is not None else None
    return penalty is not None and scalar(penalty.inputs[1]) == LOWEST


def _made_by(value: ir.Value | None, *ops: str) -> ir.Node | None:
    """Return the node that makes a value if it is one of these operators, else None."""
    made = value.producer() if value is not None else None
    return made if made is not None and made.op_type in ops else None


def _axes(step: ir.Node) -> list[int]:
    return list(step.attributes["perm"].as_ints())
