"""The attention mask hides padding and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from rarefy.exporters.passes import clean, mask
from rarefy.exporters.passes.graph import constant, node
from tests.exporters.small_graphs import finish, model, operators, run


def attention(hidden: Callable[[ir.Model, ir.Value], list[ir.Node]] | None = None) -> ir.Model:
    """softmax(scores + mask), with a batch × 1 × n × n mask built as a trace builds it.

    The score of two tokens is the product of their ids. ``hidden`` returns the nodes that compute
    further places to hide, from the places (i - j).
    """
    made, (ids, given) = model(
        {
            "input_ids": (["batch", "n"], ir.DataType.INT64),
            "attention_mask": (["batch", "n"], ir.DataType.INT64),
        }
    )
    axes = [constant(made, f"axes.{n}", np.array(n)) for n in ([1, 2], [1, 3])]
    numbers = node("Cast", [ids], to=ir.DataType.FLOAT)
    row, column = (node("Unsqueeze", [numbers.outputs[0], at]) for at in axes)
    scores = node("Mul", [row.outputs[0], column.outputs[0]])
    wide = node("Unsqueeze", [given, axes[0]])
    size = node("Shape", [scores.outputs[0]])
    spread = node("Expand", [wide.outputs[0], size.outputs[0]])
    shown = node("Cast", [spread.outputs[0]], to=ir.DataType.BOOL)
    steps = [numbers, row, column, scores, wide, size, spread, shown]
    if hidden is not None:
        steps += hidden(made, given)
        steps.append(node("And", [shown.outputs[0], steps[-1].outputs[0]]))
    penalties = [
        constant(made, name, np.array(value, dtype=np.float32))
        for name, value in (("none", 0), ("hidden", np.finfo(np.float32).min))
    ]
    penalty = node("Where", [steps[-1].outputs[0], *penalties])
    total = node("Add", [scores.outputs[0], penalty.outputs[0]])
    return finish(made, [*steps, penalty, total, node("Softmax", total.outputs, axis=-1)])


def distances(made: ir.Model, given: ir.Value) -> list[ir.Node]:
    """Return nodes for the n × n distances i - j."""
    zero, one = (constant(made, f"n.{n}", np.array(n)) for n in (0, 1))
    size = node("Shape", [given], start=1, end=2)
    length = node("Squeeze", [size.outputs[0]])
    places = node("Range", [zero, length.outputs[0], one])
    column = node("Unsqueeze", [places.outputs[0], constant(made, "last", np.array([1]))])
    return [size, length, places, column, node("Sub", [column.outputs[0], places.outputs[0]])]


def window(width: int) -> Callable[[ir.Model, ir.Value], list[ir.Node]]:
    def nodes(made: ir.Model, given: ir.Value) -> list[ir.Node]:
        steps = distances(made, given)
        far = node("Abs", steps[-1].outputs)
        limit = constant(made, "width", np.array(width))
        return [*steps, far, node("LessOrEqual", [far.outputs[0], limit])]

    return nodes


def causal(made: ir.Model, given: ir.Value) -> list[ir.Node]:
    steps = distances(made, given)
    return [
        *steps,
        node("GreaterOrEqual", [steps[-1].outputs[0], constant(made, "n.0", np.array(0))]),
    ]


def test_the_short_mask_hides_what_the_long_one_hid() -> None:
    before, graph = attention(), attention()
    assert mask.apply(graph) == 1
    clean.apply(graph)
    assert "Expand" not in operators(graph)
    feed = {
        "input_ids": np.array([[1, -2, 3, 1], [2, 1, 1, 1]]),
        "attention_mask": np.array([[1, 1, 1, 1], [1, 1, 0, 0]]),
    }
    got = run(graph, **feed)
    np.testing.assert_allclose(got, run(before, **feed), atol=1e-6)
    assert (got[1, :, :, 2:] == 0).all()
    assert (got[0] > 0).all()


@pytest.mark.parametrize("width", [1, 8, 63, 64, 100, 255, 510])
def test_a_window_that_a_row_can_reach_is_no_padding_mask(width: int) -> None:
    """The distance of the first and the last of 512 tokens is 511."""
    assert mask.apply(attention(window(width)), 512) == 0


def test_a_window_as_wide_as_the_longest_row_hides_nothing() -> None:
    assert mask.apply(attention(window(511)), 512) == 1
    assert mask.apply(attention(window(511)), 513) == 0


@pytest.mark.parametrize("longest", [2, 16, 1500])
def test_a_causal_mask_is_no_padding_mask(longest: int) -> None:
    assert mask.apply(attention(causal), longest) == 0


def test_without_a_mask_among_the_inputs_nothing_is_done() -> None:
    made, (x,) = model({"x": ([2, 2], ir.DataType.FLOAT)})
    total = node("Add", [x, x])
    assert mask.apply(finish(made, [total, node("Softmax", total.outputs)])) == 0
