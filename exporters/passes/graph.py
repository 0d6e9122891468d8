"""What the passes share: making nodes and constants, and asking where a value comes from."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

MICROSOFT = "com.microsoft"


def constant(model: ir.Model, name: str, value: NDArray[Any]) -> ir.Value:
    """Return an initializer with this name, made on first use."""
    known = model.graph.initializers.get(name)
    if known is not None:
        return known
    made = ir.Value(name=name, const_value=ir.tensor(value, name=name))
    made.shape, made.dtype = ir.Shape(value.shape), ir.DataType.from_numpy(value.dtype)
    model.graph.initializers[name] = made
    return made


def array(value: ir.Value | None) -> NDArray[Any] | None:
    """Return what a constant holds; None for what is computed, or an input."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def scalar(value: ir.Value | None) -> float | None:
    """Return a constant of one element as a number, else None."""
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
    """Make a node. ``like``: the first output takes this value's type (and rank, if known)."""
    made = ir.node(op, inputs, attributes or None, domain=domain, num_outputs=outputs)
    if like is not None:
        made.outputs[0].type = like.type
    return made


def replace(old: ir.Value, new: ir.Value) -> None:
    """Let every consumer of ``old``, the graph's outputs included, read ``new``."""
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)


def consumers(value: ir.Value) -> list[ir.Node]:
    """Return the nodes that read a value, each once."""
    return list(dict.fromkeys(usage.node for usage in value.uses()))


def only_consumer(value: ir.Value, op: str) -> ir.Node | None:
    """Return the one node that reads ``value``, where it is an ``op``."""
    readers = consumers(value)
    if len(readers) == 1 and readers[0].op_type == op and not value.is_graph_output():
        return readers[0]
    return None
