"""Graphs of a few nodes, and their outputs in ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray


def model(inputs: dict[str, tuple[list[Any], ir.DataType]]) -> tuple[ir.Model, list[ir.Value]]:
    """Return a model with these inputs and no nodes, and the inputs."""
    values = [
        ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(kind))
        for name, (shape, kind) in inputs.items()
    ]
    graph = ir.Graph(values, [], nodes=[], opset_imports={"": 20, "com.microsoft": 1})
    return ir.Model(graph, ir_version=10), values


def finish(made: ir.Model, nodes: list[ir.Node]) -> ir.Model:
    """Add the nodes; the last one's output, ``y``, becomes the graph's."""
    made.graph.extend(nodes)
    output = nodes[-1].outputs[0]
    output.name, output.type = "y", ir.TensorType(ir.DataType.FLOAT)
    made.graph.outputs.append(output)
    return made


def run(made: ir.Model, **feed: NDArray[Any]) -> NDArray[Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(ir.to_proto(made).SerializeToString())
    answer: NDArray[Any] = session.run(None, feed)[0]
    return answer


def operators(made: ir.Model) -> list[str]:
    return [node.op_type for node in made.graph]


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
