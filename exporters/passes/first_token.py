"""Compute the last layer for the first tokens only, if the classifier reads no others.

The keys and values of the last attention need every token. Its query, the output projection, both
normalisations and the feed-forward network need only the token that is read. The cut moves from the
classifier towards the input as long as every reader of a value needs only that token. The result
is the same bit for bit, up to the order of sums inside smaller matrix products.

How many tokens are first is one, or an input of the graph, ``TOKENS``, in a base that several tasks
share: one for a classifier of texts, all for one of words.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from rarefy.exporters.passes.graph import array, integers, node, scalar
from rarefy.pipeline.model.runtime.adapter_file import TOKENS

POINTWISE = {"Gelu", "Tanh", "Relu", "Erf", "Sigmoid", "Add", "Sub", "Mul", "Div"}


@dataclass
class _Demand:
    """The values of which only one index of an axis is needed, and the nodes that compute them."""

    axis: dict[ir.Value, int] = field(default_factory=dict)
    passing: set[ir.Node] = field(default_factory=set)


def apply(model: ir.Model) -> int:
    """Propagate the gathering of the first token towards the input. Returns the number of cuts."""
    picks = [step for step in model.graph if _picks_tokens(step)]
    if not picks:
        picks = [step for step in model.graph if _picks_first(step)]
    if len(picks) != 1:
        return 0
    ranks = _ranks(model)
    demand = _spread(model, picks[0], ranks)
    tokens = picks[0].inputs[2] if _picks_tokens(picks[0]) else None
    cut = 0
    cache: dict[tuple[ir.Value, int], ir.Value] = {}
    for step in list(model.graph):
        if step not in demand.passing:
            continue
        for at, axis in _wanted(step, demand.axis[step.outputs[0]], ranks):
            value = step.inputs[at]
            if value is None or value in demand.axis:
                continue
            if (value, axis) not in cache:
                cache[value, axis] = _slice(model, step, value, axis, tokens)
                cut += 1
            step.replace_input_with(at, cache[value, axis])
    for value, axis in demand.axis.items():
        value.shape = _cut_shape(value, axis, tokens)
    return cut


def _picks_tokens(step: ir.Node) -> bool:
    """Return whether a step keeps as many first tokens as an input says; a head comes after it."""
    return step.op_type == "Slice" and step.inputs[2] is not None and step.inputs[2].name == TOKENS


def _picks_first(step: ir.Node) -> bool:
    if step.op_type != "Gather" or step.attributes.get_int("axis", 0) != 1:
        return False
    return scalar(step.inputs[1]) == 0 and array(step.inputs[0]) is None


def _ranks(model: ir.Model) -> dict[ir.Value, int]:
    """Return the number of axes of every value whose shape is known."""
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    values += [output for step in model.graph for output in step.outputs]
    return {value: len(value.shape) for value in values if value.shape is not None}


def _spread(model: ir.Model, pick: ir.Node, ranks: dict[ir.Value, int]) -> _Demand:
    """Walk from the classifier to the input; include a value if all its readers agree."""
    demand = _Demand()
    readers: dict[ir.Value, list[int]] = {}
    if pick.inputs[0]:
        readers[pick.inputs[0]] = [1]
    for step in reversed(list(model.graph)):
        if len(step.outputs) != 1:
            continue
        value = step.outputs[0]
        wishes = readers.get(value, [])
        uses = len(list(value.uses())) + value.is_graph_output()
        if not wishes or len(wishes) != uses or len(set(wishes)) != 1:
            continue
        operands = _wanted(step, wishes[0], ranks)
        if not operands:
            continue
        demand.axis[value] = wishes[0]
        demand.passing.add(step)
        for at, axis in operands:
            operand = step.inputs[at]
            assert operand is not None
            readers.setdefault(operand, []).append(axis)
    return demand


def _wanted(step: ir.Node, axis: int, ranks: dict[ir.Value, int]) -> list[tuple[int, int]]:
    """Return (input index, axis) for each input of which a step needs only one index of an axis.

    ``axis`` is the output's axis, of which one index is needed. The list is empty if the cut cannot
    move past the step.
    """
    if any(value is not None and value not in ranks for value in step.inputs):
        return []
    rank = ranks.get(step.outputs[0], 0)
    if step.op_type in POINTWISE:
        operands = []
        for at, value in enumerate(step.inputs):
            assert value is not None
            operand_axis = axis - (rank - ranks[value])
            if operand_axis >= 0 and value.shape is not None and value.shape[operand_axis] != 1:
                operands.append((at, operand_axis))
        return operands
    if step.op_type in ("LayerNormalization", "SimplifiedLayerNormalization", "Softmax"):
        last = step.attributes.get_int("axis", -1) in (-1, rank - 1)
        if last and axis < rank - 1:
            return [(0, axis)]
        return []
    if step.op_type == "MatMul":
        if axis == rank - 2:
            return [(0, axis)]
        return []
    if step.op_type == "Transpose":
        return [(0, list(step.attributes["perm"].as_ints())[axis])]
    if step.op_type == "Reshape":
        # Batch and sequence stay the first axes; heads are split or joined after them.
        target = array(step.inputs[1])
        keeps_axis = target is not None and axis < 2 and list(target[:2]) == [0, 0]
        if keeps_axis:
            return [(0, axis)]
        return []
    return []


def _slice(
    model: ir.Model, before: ir.Node, value: ir.Value, axis: int, tokens: ir.Value | None
) -> ir.Value:
    """Return the first of a value along an axis; ``tokens``: how many, None for one."""
    start = integers(model, "cut.0", [0])
    size = tokens or integers(model, "cut.1", [1])
    at = integers(model, f"cut.axis.{axis}", [axis])
    cut = node("Slice", [value, start, size, at], like=value)
    cut.outputs[0].shape = _cut_shape(value, axis, tokens)
    model.graph.insert_before(before, cut)
    return cut.outputs[0]


def _cut_shape(value: ir.Value, axis: int, tokens: ir.Value | None) -> ir.Shape | None:
    """Return a value's shape with the size along ``axis``; the runtime plans memory from shapes."""
    if value.shape is None:
        return None
    sizes: list[Any] = list(value.shape)
    sizes[axis] = TOKENS if tokens else 1
    return ir.Shape(sizes)
