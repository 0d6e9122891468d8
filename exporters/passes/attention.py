"""Compute each attention in one operator, ONNX's ``Attention``, with a mask only where needed.

It takes queries, keys and values as batch × tokens × width, as the linear layers give them, so the
reshapes and transposes around the two products go: twelve nodes of a layer become one. At few
tokens, the nodes were most of what was left beside the matrix products.

A mask costs more than it hides: at 32 tokens of 12 heads × 32, on one Cascade Lake core, the
operator takes 57 µs without a mask and 71 µs with one; ONNX Runtime's own ``MultiHeadAttention``
takes 82 and 122 µs. A row that runs alone, or beside rows of the same length, hides nothing, so an
``If`` takes the branch without a mask when all tokens count.

Attentions that are anything else than scores, a bias by position, a padding mask, a softmax and
values stay what they are: those of DeBERTa, or with rotary positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from exporters.passes.graph import array, constant, node, only_consumer, replace, scalar

OPSET = 23  # the first with the operator
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
    if not found:
        return 0
    model.graph.opset_imports[""] = max(OPSET, model.graph.opset_imports[""])
    given = next((value for value in model.graph.inputs if value.name == "attention_mask"), None)
    whole = _whole(model, given) if given and any(each.masked for each in found) else None
    for each in found:
        fused = _attend(each, each.bias)
        if each.masked and whole is not None and given is not None:
            fused = _choose(model, each, whole, given)
        fused.outputs[0].shape = each.last.outputs[0].shape
        model.graph.insert_before(each.last, fused)
        replace(each.last.outputs[0], fused.outputs[0])
    return len(found)


def _whole(model: ir.Model, given: ir.Value) -> ir.Value:
    """Return whether no token of the batch is padding."""
    least = node("ReduceMin", [given], keepdims=0)
    whole = node("Cast", [least.outputs[0]], to=ir.DataType.BOOL)
    model.graph.insert_before(model.graph[0], [least, whole])
    return whole.outputs[0]


def _attend(each: _Attention, mask: ir.Value | None) -> ir.Node:
    """Return the operator; ``mask`` is added to the scores."""
    return node(
        "Attention",
        [each.query, each.key, each.value, *([mask] if mask else [])],
        like=each.last.outputs[0],
        q_num_heads=each.heads,
        kv_num_heads=each.heads,
        scale=1.0,  # it is in the weights of the queries
    )


def _choose(model: ir.Model, each: _Attention, whole: ir.Value, given: ir.Value) -> ir.Node:
    """Return an ``If`` that attends with the padding mask only if there is padding."""
    plain, masked = _attend(each, each.bias), _penalty(model, each, given)
    last = _attend(each, masked[-1].outputs[0])
    name = str(each.last.outputs[0].name)
    # A branch's nodes run only if it is taken: one mask for all layers would be made at each call.
    return node(
        "If",
        [whole],
        like=each.last.outputs[0],
        then_branch=_branch(f"{name}.whole", [plain]),
        else_branch=_branch(f"{name}.padded", [*masked, last]),
    )


def _branch(name: str, nodes: list[ir.Node]) -> ir.Graph:
    """Return nodes as a graph that gives the last one's output; names are of the whole file."""
    for at, step in enumerate(nodes):
        step.name = step.outputs[0].name = f"{name}.{at}"
    return ir.Graph([], [nodes[-1].outputs[0]], nodes=nodes, name=name)


def _penalty(model: ir.Model, each: _Attention, given: ir.Value) -> list[ir.Node]:
    """Return nodes whose last makes what is added to scores: batch × 1 or heads × tokens × tokens.

    The operator does not broadcast along the queries, so the mask is repeated for each.
    """
    one = constant(model, "mask.one", np.array(1, dtype=np.float32))
    lowest = constant(model, "mask.lowest", np.array(LOWEST, dtype=np.float32))
    axes = constant(model, "mask.axes", np.array([1, 2], dtype=np.int64))
    ones = constant(model, "mask.ones", np.array([1, 1], dtype=np.int64))
    end = constant(model, "mask.end", np.array([1], dtype=np.int64))
    kept = node("Cast", [given], to=ir.DataType.FLOAT)
    hidden = node("Sub", [one, kept.outputs[0]])
    penalty = node("Mul", [hidden.outputs[0], lowest])
    wide = node("Unsqueeze", [penalty.outputs[0], axes])
    queries = node("Shape", [each.query], start=1, end=2)
    size = node("Concat", [ones, queries.outputs[0], end], axis=0)
    tall = node("Expand", [wide.outputs[0], size.outputs[0]])
    made = [kept, hidden, penalty, wide, queries, size, tall]
    return [*made, node("Add", [tall.outputs[0], each.bias])] if each.bias else made


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
