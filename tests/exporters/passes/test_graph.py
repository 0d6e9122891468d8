"""Functions that the passes share."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rarefy.exporters.passes import graph as making
from tests.exporters.small_graphs import finish, model, normal, run


def test_a_constant_is_made_once_under_its_name() -> None:
    made, _ = model({})
    one = making.constant(made, "c", np.array([1.0]))
    assert making.constant(made, "c", np.array([2.0])) is one
    assert making.scalar(one) == 1.0
    assert making.scalar(making.constant(made, "pair", np.array([1.0, 2.0]))) is None


def test_an_input_or_a_computed_value_holds_nothing() -> None:
    _, (x,) = model({"x": ([2], ir.DataType.FLOAT)})
    assert making.array(x) is None
    assert making.array(making.node("Abs", [x]).outputs[0]) is None
    assert making.array(None) is None


def test_who_reads_a_value_is_told_once_each() -> None:
    made, (x,) = model({"x": ([2], ir.DataType.FLOAT)})
    source = making.node("Abs", [x])
    square = making.node("Mul", [source.outputs[0], source.outputs[0]])
    finish(made, [source, square])
    assert making.consumers(source.outputs[0]) == [square]
    assert making.only_consumer(source.outputs[0], "Mul") is square
    assert making.only_consumer(source.outputs[0], "Add") is None
    assert making.only_consumer(square.outputs[0], "Mul") is None, "the graph's own output"


def test_a_value_that_is_replaced_is_read_by_nobody_the_outputs_included() -> None:
    made, (x,) = model({"x": ([2], ir.DataType.FLOAT)})
    old = making.node("Neg", [x])
    finish(made, [old])
    new = making.node("Abs", [x], like=old.outputs[0])
    made.graph.insert_before(old, new)
    making.replace(old.outputs[0], new.outputs[0])
    made.graph.remove(old, safe=True)
    given = normal(2)
    np.testing.assert_array_equal(run(made, x=given), np.abs(given))


def test_a_value_depends_on_the_numbers_of_an_input_or_on_its_size_only() -> None:
    made, (x, y) = model({n: (["n"], ir.DataType.FLOAT) for n in ("x", "y")})
    size = making.node("Shape", [x])
    wide = making.node("Cast", size.outputs, to=ir.DataType.FLOAT)
    total = making.node("Add", [wide.outputs[0], y])
    finish(made, [size, wide, total])
    assert making.read_inputs(wide.outputs[0]) == set()
    assert making.varies(wide.outputs[0])
    assert making.read_inputs(total.outputs[0]) == {"y"}
    assert making.read_inputs(x) == {"x"}


def test_scores_may_reach_their_softmax_through_another_sum() -> None:
    made, (x,) = model({"x": (["n"], ir.DataType.FLOAT)})
    first = making.node("Add", [x, x])
    second = making.node("Add", [first.outputs[0], x])
    shares = making.node("Softmax", second.outputs)
    last = making.node("Add", [shares.outputs[0], x])
    finish(made, [first, second, shares, last])
    assert [making.feeds_softmax(each) for each in (first, second, last)] == [True, True, False]
