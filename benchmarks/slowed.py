"""Make a slower bundle with the same answers by adding work to its graph."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

WIDTH = 256


def make(bundle: Path, output: Path, columns: int) -> Path:
    """Copy a bundle and add ``columns`` × 256 multiplications per token to its graph.

    The product depends on the token ids, so it cannot be precomputed. It is multiplied by zero and
    added to the logits, so it cannot be optimized away.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    shutil.rmtree(output, ignore_errors=True)
    shutil.copytree(bundle, output)
    model = onnx.load(str(output / "model.onnx"))
    graph = model.graph
    generator = np.random.default_rng(0)
    constants = {
        "slowed_axis": np.array([2], dtype=np.int64),
        "slowed_wide": generator.normal(size=(1, WIDTH)).astype(np.float32),
        "slowed_work": generator.normal(size=(WIDTH, columns)).astype(np.float32),
        "slowed_zero": np.zeros((), dtype=np.float32),
    }
    graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in constants.items()
    )
    for node in graph.node:
        for place, name in enumerate(node.output):
            if name == "logits":
                node.output[place] = "slowed_logits"
    make_node = helper.make_node
    graph.node.extend(
        [
            make_node("Cast", ["input_ids"], ["slowed_ids"], to=TensorProto.FLOAT),
            make_node("Unsqueeze", ["slowed_ids", "slowed_axis"], ["slowed_column"]),
            make_node("MatMul", ["slowed_column", "slowed_wide"], ["slowed_tokens"]),
            make_node("MatMul", ["slowed_tokens", "slowed_work"], ["slowed_product"]),
            make_node("ReduceSum", ["slowed_product"], ["slowed_sum"], keepdims=0),
            make_node("Mul", ["slowed_sum", "slowed_zero"], ["slowed_nothing"]),
            make_node("Add", ["slowed_logits", "slowed_nothing"], ["logits"]),
        ]
    )
    onnx.save(model, str(output / "model.onnx"))
    return output
