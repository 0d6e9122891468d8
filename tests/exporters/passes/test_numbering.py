"""A graph's order and names are those of what it computes, however it was traced."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from rarefy.exporters.passes import numbering
from tests.exporters.small_graphs import operators


def graph(first: int) -> ir.Model:
    """Return a graph whose exporter counted from ``first``: x + a, squared, times the weight."""
    x = ir.val("x", ir.DataType.FLOAT, [2])
    a = ir.val(f"val_{first}", const_value=ir.tensor(np.ones(2, np.float32)))
    weight = ir.val("layer.weight", const_value=ir.tensor(np.full(2, 3, np.float32)))
    added = ir.node("Add", [x, a], name=f"node_Add_{first}")
    added.outputs[0].name = f"val_{first + 1}"
    squared = ir.node("Mul", [added.outputs[0]] * 2, name=f"node_Mul_{first + 1}")
    squared.outputs[0].name = f"val_{first - 1}"
    last = ir.node("Mul", [squared.outputs[0], weight])
    last.outputs[0].name = "logits"
    made = ir.Graph(
        [x],
        [last.outputs[0]],
        nodes=[added, squared, last],
        initializers=[a, weight] if first % 2 else [weight, a],
        opset_imports={"": 20},
    )
    return ir.Model(made, ir_version=10)


def tables(*, exchanged: bool) -> ir.Model:
    """Return sin(x · fast) - cos(x · slow), traced in either order of its two tables.

    An If takes the difference in one branch. It reads both tables there only.
    """
    x = ir.val("x", ir.DataType.FLOAT, [2])
    yes = ir.val("yes", ir.DataType.BOOL, [])
    nodes, read, weights = [], {}, {}
    order = [("Sin", "fast", 2.0), ("Cos", "slow", 3.0)]
    for count, (op, name, factor) in enumerate(reversed(order) if exchanged else order):
        factors = [
            ir.val(title, const_value=ir.tensor(np.full(2, number, np.float32)))
            for title, number in ((f"rotary.{name}", factor), (f"lifted_{count}", factor + 5))
        ]
        weights |= {name: factors}
        scaled = ir.node("Mul", [x, factors[0]])
        moved = ir.node("Add", [scaled.outputs[0], factors[1]])
        turned = ir.node(op, [moved.outputs[0]])
        for node, kind in ((scaled, "mul"), (moved, "add"), (turned, op.lower())):
            node.outputs[0].name = f"{kind}_{count}" if count else kind
            nodes.append(node)
        read[op] = turned.outputs[0]
    branches = []
    for op in ("Sub", "Add"):
        inner = ir.node(op, [read["Sin"], read["Cos"]])
        inner.outputs[0].name = "value_0"
        branches.append(ir.Graph([], inner.outputs, nodes=[inner], name=op))
    either = ir.node("If", [yes], {"then_branch": branches[0], "else_branch": branches[1]})
    either.outputs[0].name = "logits"
    held = [value for values in weights.values() for value in values]
    made = ir.Graph(
        [x, yes],
        either.outputs,
        nodes=[*nodes, either],
        initializers=held,
        opset_imports={"": 20},
    )
    return ir.Model(made, ir_version=10)


@pytest.mark.parametrize("first", [1, 2, 9])
def test_names_and_order_do_not_depend_on_what_the_exporter_counted(first: int) -> None:
    model, other = graph(first), graph(5)
    assert numbering.apply(model) == 3
    numbering.apply(other)
    assert ir.to_proto(model).SerializeToString() == ir.to_proto(other).SerializeToString()
    assert list(model.graph.initializers) == ["value_0", "layer.weight"]
    assert [node.name for node in model.graph] == ["node_Add_0", "node_Mul_1", "node_Mul_2"]


def test_names_and_order_do_not_depend_on_the_order_of_tracing() -> None:
    model, other = tables(exchanged=False), tables(exchanged=True)
    assert operators(model) != operators(other)
    for each in (model, other):
        numbering.apply(each)
    assert ir.to_proto(model).SerializeToString() == ir.to_proto(other).SerializeToString()
    names = [value.name for node in model.graph.all_nodes() for value in node.outputs]
    assert len(set(names)) == len(names)
    assert names[6] == "logits"


@pytest.mark.parametrize("exchanged", [False, True])
def test_what_only_a_branch_reads_is_computed_before_it(exchanged: bool) -> None:
    runtime = pytest.importorskip("onnxruntime")
    model = tables(exchanged=exchanged)
    numbering.apply(model)
    session = runtime.InferenceSession(ir.to_proto(model).SerializeToString())
    x = np.array([1, 2], np.float32)
    sine, cosine = np.sin(2 * x + 7), np.cos(3 * x + 8)
    for yes, expected in ((True, sine - cosine), (False, sine + cosine)):
        answer = session.run(None, {"x": x, "yes": np.array(yes)})[0]
        assert np.allclose(answer, expected, atol=1e-5)


def test_the_graph_still_computes_the_same() -> None:
    runtime = pytest.importorskip("onnxruntime")
    model = graph(1)
    numbering.apply(model)
    session = runtime.InferenceSession(ir.to_proto(model).SerializeToString())
    assert session.run(None, {"x": np.array([1, 2], np.float32)})[0].tolist() == [12, 27]
