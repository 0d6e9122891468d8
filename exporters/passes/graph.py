"""Functions that the passes share: make nodes and constants, read and replace values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

MICROSOFT = "com.microsoft"


def constant(model: ir.Model, name: str, value: NDArray[Any]) -> ir.Value:
    """Return the initializer with this name; create it on first use."""
    existing = model.graph.initializers.get(name)
    if existing is not None:
        return existing
    tensor = ir.tensor(value, name=name)
    created = ir.Value(name=name, const_value=tensor)
    created.shape = ir.Shape(value.shape)
    created.dtype = ir.DataType.from_numpy(value.dtype)
    model.graph.initializers[name] = created
    return created


def integers(model: ir.Model, name: str, numbers: Sequence[int]) -> ir.Value:
    """Return the initializer of int64 with this name; create it on first use."""
    return constant(model, name, np.array(numbers, dtype=np.int64))


def array(value: ir.Value | None) -> NDArray[Any] | None:
    """Return the array of a constant, or None if the value is computed or an input."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def producer(value: ir.Value | None, *operators: str) -> ir.Node | None:
    """Return the node that computes a value, of one of these operators if any is named."""
    if value is None:
        return None
    source = value.producer()
    if source is None or (operators and source.op_type not in operators):
        return None
    return source


def scalar(value: ir.Value | None) -> float | None:
    """Return the number in a constant of one element, or None for any other value."""
    held = array(value)
    if held is not None and held.size == 1:
        return float(held.reshape(()))
    return None


def node(
    op: str,
    inputs: Sequence[ir.Value | ir.Node | None],
    *,
    like: ir.Value | None = None,
    outputs: int = 1,
    domain: str = "",
    **attributes: Any,
) -> ir.Node:
    """Make a node.

    Args:
        op: the operator.
        inputs: what it reads; a node stands for its first output.
        like: the first output gets the type of this value.
        outputs: their number.
        domain: of the operator; ONNX's own if it is empty.
        attributes: the operator's attributes.
    """
    values = [read.outputs[0] if isinstance(read, ir.Node) else read for read in inputs]
    created = ir.node(op, values, attributes or None, domain=domain, num_outputs=outputs)
    if like is not None:
        created.outputs[0].type = like.type
    return created


def replace(old: ir.Value, new: ir.Value) -> None:
    """Make every consumer of ``old``, including the graph's outputs, read ``new``."""
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)


def behind(value: ir.Value, past: Callable[[ir.Node], bool] = lambda _: True) -> Iterator[ir.Value]:
    """Yield a value and what it is computed from; what nodes read that are not ``past`` is not."""
    seen = set[ir.Value]()
    waiting = [value]
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        yield current
        source = current.producer()
        if source is not None and past(source):
            waiting.extend(operand for operand in source.inputs if operand is not None)


def varies(value: ir.Value) -> bool:
    """Return whether a value depends on an input of the graph."""
    return any(source.is_graph_input() for source in behind(value))


def read_inputs(value: ir.Value) -> set[str]:
    """Return the names of the graph's inputs on whose numbers, not only sizes, a value depends."""
    read = behind(value, lambda source: source.op_type != "Shape")
    return {str(each.name) for each in read if each.is_graph_input()}


def feeds_softmax(adding: ir.Node) -> bool:
    """Return whether a softmax reads this sum, perhaps through another sum (a position bias)."""
    for reader in consumers(adding.outputs[0]):
        if reader.op_type == "Softmax":
            return True
        if reader.op_type == "Add" and feeds_softmax(reader):
            return True
    return False


def added_to_scores(model: ir.Model) -> Iterator[tuple[ir.Node, int, ir.Value]]:
    """Yield each value that is added before a softmax: the sum, its place there, and the value."""
    for adding in model.graph:
        if adding.op_type != "Add" or not feeds_softmax(adding):
            continue
        for at, value in enumerate(adding.inputs):
            if value is not None:
                yield adding, at, value


def consumers(value: ir.Value) -> list[ir.Node]:
    """Return the nodes that read a value, without duplicates."""
    return list(dict.fromkeys(usage.node for usage in value.uses()))


def only_consumer(value: ir.Value, op: str) -> ir.Node | None:
    """Return the only node that reads ``value`` if it is an ``op``, else None."""
    readers = consumers(value)
    if len(readers) == 1 and readers[0].op_type == op and not value.is_graph_output():
        return readers[0]
    return None
