from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from exporters.passes import numbering


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


@pytest.mark.parametrize("first", [1, 2, 9])
def test_names_and_order_do_not_depend_on_what_the_exporter_counted(first: int) -> None:
    model, other = graph(first), graph(5)
    assert numbering.apply(model) == 3
    numbering.apply(other)
    assert ir.to_proto(model).SerializeToString() == ir.to_proto(other).SerializeToString()
    assert list(model.graph.initializers) == ["val_0", "layer.weight"]
    assert [node.name for node in model.graph] == ["node_Add_0", "node_Mul_1", "node_Mul_2"]


def test_the_graph_still_computes_the_same() -> None:
    runtime = pytest.importorskip("onnxruntime")
    model = graph(1)
    numbering.apply(model)
    session = runtime.InferenceSession(ir.to_proto(model).SerializeToString())
    assert session.run(None, {"x": np.array([1, 2], np.float32)})[0].tolist() == [12, 27]
