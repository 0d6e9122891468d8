"""Give a graph the order and the names that follow from what it computes, and from nothing else.

The exporter orders and names nodes, values and weights as it meets them, and counts those that it
drops again. Both differ from process to process: in one of some fifty exports, it makes one value
more, and ModernBERT's code in transformers computes its rotary tables in the order of a set of
strings. The same model then had the same graph in another file, with another digest.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir


def apply(model: ir.Model) -> int:
    """Order the nodes and weights, and name nodes and values. Returns the number of new names.

    A node comes after what it reads, first what its first input needs. Inputs and outputs of the
    model keep their names, and so do weights that are named after their module, with a dot.
    """
    # The branches of an If first: what the If reads in them is found in their order.
    for graph in reversed([model.graph, *model.graph.subgraphs()]):
        graph.extend(_from_outputs(graph))
    nodes = list(model.graph.all_nodes())
    used: list[ir.Value] = []
    for graph in model.graph.subgraphs():
        used.extend(graph.inputs)
    for node in nodes:
        used += [value for value in (*node.inputs, *node.outputs) if value is not None]
    public = {*model.graph.inputs, *model.graph.outputs}
    numbered = dict.fromkeys(value for value in used if value not in public and _is_numbered(value))
    for form in ("renamed_{}", "value_{}"):  # a new name may be one that another value still has
        for number, value in enumerate(numbered):
            value.name = form.format(number)
    for number, node in enumerate(nodes):
        node.name = f"node_{node.op_type}_{number}"
    initializers = dict.fromkeys(value for value in used if value.is_initializer())
    for value in initializers:
        assert value.graph is not None
        weights = value.graph.initializers
        weights[str(value.name)] = weights.pop(str(value.name))
    return len(numbered)


def _from_outputs(graph: ir.Graph) -> list[ir.Node]:
    """Return the graph's nodes as a walk from its outputs, depth first, leaves them."""
    ends = [value.producer() for value in graph.outputs]
    waiting = [(node, False) for node in reversed([*ends, *graph])]  # also nodes that nothing reads
    entered = set[ir.Node]()
    left = list[ir.Node]()
    while waiting:
        node, done = waiting.pop()
        if node is None or node.graph is not graph:
            continue
        if done:
            left.append(node)
        elif node not in entered:
            entered.add(node)
            sources = [value.producer() for value in _read(node)]
            waiting.append((node, True))
            for source in reversed(sources):
                waiting.append((source, False))
    return left


def _read(node: ir.Node) -> Iterator[ir.Value]:
    """Yield the values that a node reads, then those that are read in its subgraphs."""
    yield from (value for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            inner = attribute.as_graph()
            for inner_node in inner:
                yield from _read(inner_node)
            yield from inner.outputs


def _is_numbered(value: ir.Value) -> bool:
    """Return whether a value has a name, and the name tells only when the exporter made it."""
    return bool(value.name) and not (value.is_initializer() and "." in str(value.name))
