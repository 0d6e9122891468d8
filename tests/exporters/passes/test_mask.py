"""The attention mask hides padding and nothing else."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporters.passes import clean, mask
from exporters.passes.graph import constant, node
from tests.exporters.small_graphs import finish, model, normal, operators, run


def attention() -> ir.Model:
    """softmax(scores + mask), with a batch × 1 × n × n mask built as a trace builds it."""
    made, (scores, given) = model(
        {
            "scores": (["batch", 1, "n", "n"], ir.DataType.FLOAT),
            "attention_mask": (["batch", "n"], ir.DataType.INT64),
        }
    )
    wide = node("Unsqueeze", [given, constant(made, "axes", np.array([1, 2]))])
    size = node("Shape", [scores])
    spread = node("Expand", [wide.outputs[0], size.outputs[0]])
    shown = node("Cast", [spread.outputs[0]], to=ir.DataType.BOOL)
    penalties = [
        constant(made, name, np.array(value, dtype=np.float32))
        for name, value in (("none", 0), ("hidden", np.finfo(np.float32).min))
    ]
    penalty = node("Where", [shown.outputs[0], *penalties])
    total = node("Add", [scores, penalty.outputs[0]])
    return finish(
        made, [wide, size, spread, shown, penalty, total, node("Softmax", total.outputs, axis=-1)]
    )


def test_the_short_mask_hides_what_the_long_one_hid() -> None:
    before, graph = attention(), attention()
    assert mask.apply(graph) == 1
    clean.apply(graph)
    assert "Expand" not in operators(graph)
    feed = {"scores": normal(2, 1, 4, 4), "attention_mask": np.array([[1, 1, 1, 1], [1, 1, 0, 0]])}
    got = run(graph, **feed)
    np.testing.assert_allclose(got, run(before, **feed), atol=1e-6)
    assert (got[1, :, :, 2:] == 0).all()
    assert (got[0] > 0).all()


def test_without_a_mask_among_the_inputs_nothing_is_done() -> None:
    made, (x,) = model({"x": ([2, 2], ir.DataType.FLOAT)})
    total = node("Add", [x, x])
    assert mask.apply(finish(made, [total, node("Softmax", total.outputs)])) == 0
