"""The last layer computes only what is read from it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rarefy.exporters.passes import clean, first_token, mask
from tests.exporters.graphs import exported


def test_the_last_layer_sees_one_token(rows):
    """The last layer's feed-forward network gets 1 token; those of other layers get all."""
    import onnxruntime

    graph, expected = exported("Bert", rows)
    mask.apply(graph)
    first_token.apply(graph)
    clean.apply(graph)
    gelus = [node.outputs[0] for node in graph.graph if node.op_type == "Gelu"]
    assert len(gelus) == 2
    graph.graph.outputs.extend(gelus)
    session = onnxruntime.InferenceSession(ir.to_proto(graph).SerializeToString())
    feed = {name: np.ones((2, 7), dtype=np.int64) for name in expected[0].feed}
    _, first, last = session.run(None, feed)
    assert first.shape == (2, 7, 64)
    assert last.shape == (2, 1, 64)
