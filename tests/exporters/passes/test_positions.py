"""Tables of positions end where the longest row does."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from rarefy.exporters.passes import positions
from rarefy.exporters.passes.graph import array, constant, node
from tests.exporters.small_graphs import finish, model, normal, run


def lookup(kind: str, rows: int = 40) -> ir.Model:
    """A table read at 0, 1, 2… ("plain"), at RoBERTa's positions ("after padding"), or by token."""
    made, (ids,) = model({"input_ids": (["batch", "n"], ir.DataType.INT64)})
    table = constant(made, "table", normal(rows, 4))
    zero, one = (constant(made, f"n.{n}", np.array(n)) for n in (0, 1))
    steps = []
    index = ids
    if kind == "plain":
        size = node("Shape", [ids], start=1, end=2)
        length = node("Squeeze", size.outputs)
        steps = [size, length, node("Range", [zero, length.outputs[0], one])]
    elif kind == "after padding":
        same = node("Equal", [ids, one])
        real = node("Not", same.outputs)
        counted = node("Cast", real.outputs, to=ir.DataType.INT64)
        places = node("CumSum", [counted.outputs[0], one])
        shown = node("Mul", [places.outputs[0], counted.outputs[0]])
        steps = [same, real, counted, places, shown, node("Add", [shown.outputs[0], one])]
    elif kind == "shifted token":
        steps = [node("Sub", [ids, one])]
    if steps:
        index = steps[-1].outputs[0]
    places = node("Gather", [table, index], axis=0)
    wide = node("Cast", [ids], to=ir.DataType.FLOAT)
    tokens = node("Unsqueeze", [wide.outputs[0], constant(made, "last", np.array([-1]))])
    total = node("Add", [tokens.outputs[0], places.outputs[0]])
    return finish(made, [*steps, places, wide, tokens, total])


@pytest.mark.parametrize(("kind", "first"), [("plain", 0), ("after padding", 2)])
@pytest.mark.parametrize("longest", [2, 7, 30])
def test_as_many_positions_are_left_as_the_longest_row_reaches(kind, first, longest):
    before, graph = lookup(kind), lookup(kind)
    kept = first + longest
    assert positions.apply(graph, longest) == 40 - kept
    assert array(graph.graph.initializers["table"]).shape == (kept, 4)
    for length in {1, longest // 2 + 1, longest}:
        ids = np.arange(2 * length).reshape(2, length) % 3  # 1 is padding
        np.testing.assert_array_equal(run(graph, input_ids=ids), run(before, input_ids=ids))
    with pytest.raises(Exception, match=r"out of data bounds|Attempting to broadcast"):
        run(graph, input_ids=np.full((1, longest + 1), 5))


def test_a_table_that_the_longest_row_needs_whole_stays():
    assert positions.apply(lookup("plain"), 40) == 0
    assert positions.apply(lookup("after padding"), 38) == 0
    assert positions.apply(lookup("after padding"), 37) == 1


@pytest.mark.parametrize("kind", ["token", "shifted token"])
def test_a_table_of_tokens_stays(kind):
    assert positions.apply(lookup(kind), 4) == 0
