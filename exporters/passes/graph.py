"""Functions that the passes share: make nodes and constants, read and replace values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

MICROSOFT = "com.microsoft"


def constant(model: ir.Model, name: str, value: NDArray[Any]) -> ir.Value:
    """Return the initializer with this name; create it on first use."""
    known = model.graph.initializers.get(name)
    if known is not None:
        return known
    made = ir.Value(name=name, const_value=ir.tensor(value, name=name))
    made.shape, made.dtype = ir.Shape(value.shape), ir.DataType.from_numpy(value.dtype)
    model.graph.initializers[name] = made
    return made


def array(value: ir.Value | None) -> NDArray[Any] | None:
    """Return the array of a constant, or None if the value is computed or an input."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def scalar(value: ir.Value | None) -> float | None:
    """Return the number in a constant of one element, or None for any other value."""
    held = array(value)
    return float(held.reshape(())) if held is not None and held.size == 1 else None


def node(
    op: str,
    inputs: list[ir.Value | None],
    *,
    like: ir.Value | None = None,
    outputs: int = 1,
    domain: str = "",
    **attributes: Any,
) -> ir.Node:
    """Make a node. ``like``: the first output gets the type of this value."""
    made = ir.node(op, inputs, attributes or None, domain=domain, num_outputs=outputs)
    if like is not None:
        made.outputs[0].type = like.type
    return made


def replace(old: ir.Value, new: ir.Value) -> None:
    """Make every consumer of ``old``, including the graph's outputs, read ``new``."""
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)


def behind(value: ir.Value, past: Callable[[ir.Node], bool] = lambda _: True) -> Iterator[ir.Value]:
    """Yield a value and what it is computed from; what nodes read that are not ``past`` is not."""
    seen, waiting = set[ir.Value](), [value]
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
    return any(each.is_graph_input() for each in behind(value))


def read_inputs(value: ir.Value) -> set[str]:
    """Return the names of the graph's inputs on whose numbers, not only sizes, a value depends."""
    read = behind(value, lambda source: source.op_type != "Shape")
    return {str(each.name) for each in read if each.is_graph_input()}


def feeds_softmax(adding: ir.Node) -> bool:
    """Return whether a softmax reads this sum, perhaps through another sum (a position bias)."""
    readers = consumers(adding.outputs[0])
    return any(
        reader.op_type == "Softmax" or (reader.op_type == "Add" and feeds_softmax(reader))
        for reader in readers
    )


def consumers(value: ir.Value) -> list[ir.Node]:
    """Return the nodes that read a value, without duplicates."""
    return list(dict.fromkeys(usage.node for usage in value.uses()))


def only_consumer(value: ir.Value, op: str) -> ir.Node | None:
    """Return the only node that reads ``value`` if it is an ``op``, else None."""
    readers = consumers(value)
    if len(readers) == 1 and readers[0].op_type == op and not value.is_graph_output():
        return readers[0]
    return None
