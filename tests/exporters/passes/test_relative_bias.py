"""A bias by distance is a table; what only looks like one stays, and so do the answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from rarefy.exporters import fusion, parity, trace
from rarefy.exporters.passes import attention, clean, first_token, mask, relative_bias, scale
from rarefy.exporters.passes.graph import array, constant, node
from rarefy.pipeline.model import checkpoint
from rarefy.stages.surgery import units as surgery
from tests.exporters.conftest import tiny
from tests.exporters.graphs import PAD, exported
from tests.exporters.small_graphs import finish, model, operators, run
from tests.models import TASK

HEADS = 3
Slopes = Callable[[ir.Model, ir.Value, ir.Value], list[ir.Node]]


def attend(slopes: Slopes | None = None) -> ir.Model:
    """softmax(scores + bias); the score of two tokens is the product of their ids, for each head.

    ``slopes`` returns nodes for the bias, heads × n × n, from the distances (n × n floats) and the
    mask; by default a slope times the distance, as in ALiBi.
    """
    made, (ids, given) = model(
        {name: (["batch", "n"], ir.DataType.INT64) for name in ("input_ids", "attention_mask")}
    )
    axes = [constant(made, f"axes.{n}", np.array(n)) for n in ([1, 2], [1, 3])]
    numbers = node("Cast", [ids], to=ir.DataType.FLOAT)
    row, column = (node("Unsqueeze", [numbers.outputs[0], at]) for at in axes)
    scores = node("Mul", [row.outputs[0], column.outputs[0]])
    zero, one = (constant(made, f"n.{n}", np.array(n)) for n in (0, 1))
    size = node("Shape", [ids], start=1, end=2)
    length = node("Squeeze", [size.outputs[0]])
    places = node("Range", [zero, length.outputs[0], one])
    tall = node("Unsqueeze", [places.outputs[0], constant(made, "last", np.array([1]))])
    apart = node("Sub", [places.outputs[0], tall.outputs[0]])
    wide = node("Cast", [apart.outputs[0]], to=ir.DataType.FLOAT)
    steps = [numbers, row, column, scores, size, length, places, tall, apart, wide]
    steps += (slopes or by_distance)(made, wide.outputs[0], given)
    bias = node("Unsqueeze", [steps[-1].outputs[0], constant(made, "first", np.array([0]))])
    bias.outputs[0].shape = ir.Shape([1, HEADS, "n", "n"])
    bias.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    total = node("Add", [scores.outputs[0], bias.outputs[0]])
    return finish(made, [*steps, bias, total, node("Softmax", total.outputs, axis=-1)])


def sloped(made: ir.Model) -> ir.Value:
    values = np.array([-0.1, -0.01, 0.5], dtype=np.float32).reshape(HEADS, 1, 1)
    return constant(made, "slopes", values)


def by_distance(made: ir.Model, apart: ir.Value, given: ir.Value) -> list[ir.Node]:
    """Keys before and after the query count differently."""
    return [node("Mul", [sloped(made), apart])]


def by_length(made: ir.Model, apart: ir.Value, given: ir.Value) -> list[ir.Node]:
    """The same for equal distances, but for rows of one length only."""
    largest = node("ReduceMax", [apart], keepdims=1)
    share = node("Div", [apart, largest.outputs[0]])
    return [largest, share, node("Mul", [sloped(made), share.outputs[0]])]


def by_place(made: ir.Model, apart: ir.Value, given: ir.Value) -> list[ir.Node]:
    """Another slope for each key."""
    summed = node("CumSum", [apart, constant(made, "n.1", np.array(1))])
    return [summed, node("Mul", [sloped(made), summed.outputs[0]])]


def by_mask(made: ir.Model, apart: ir.Value, given: ir.Value) -> list[ir.Node]:
    """By distance as long as no token is padding."""
    kept = node("Cast", [given], to=ir.DataType.FLOAT)
    share = node("ReduceMean", [kept.outputs[0]], keepdims=0)
    part = node("Mul", [apart, share.outputs[0]])
    return [kept, share, part, node("Mul", [sloped(made), part.outputs[0]])]


@pytest.mark.parametrize("longest", [2, 7, 100])
def test_a_bias_by_distance_is_cut_out_of_a_table(longest: int) -> None:
    before, graph = attend(), attend()
    assert relative_bias.apply(graph, longest) == 1
    clean.apply(graph)
    assert not {"Range", "Squeeze"} & set(operators(graph))
    table = array(graph.graph.initializers["distances"])
    assert table is not None
    wanted = sloped(before).const_value.numpy().reshape(1, HEADS, 1) * np.arange(
        1 - longest, longest
    )
    np.testing.assert_allclose(table, wanted, rtol=1e-6)
    for length in {1, longest // 2 + 1, longest}:
        ids = np.arange(2 * length).reshape(2, length) % 3
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        np.testing.assert_array_equal(run(graph, **feed), run(before, **feed))


def test_a_row_that_is_longer_than_the_longest_fails() -> None:
    graph = attend()
    relative_bias.apply(graph, 7)
    with pytest.raises(Exception, match="Attempting to broadcast"):
        run(
            graph, **dict.fromkeys(("input_ids", "attention_mask"), np.ones((1, 8), dtype=np.int64))
        )


@pytest.mark.parametrize("slopes", [by_length, by_place, by_mask])
def test_a_bias_by_anything_else_stays(slopes: Slopes) -> None:
    assert relative_bias.apply(attend(slopes), 100) == 0


def test_a_table_that_would_spread_to_too_much_memory_stays(monkeypatch) -> None:
    monkeypatch.setattr(relative_bias, "MOST", HEADS * 20**2)
    assert relative_bias.apply(attend(), 20) == 1
    assert relative_bias.apply(attend(), 21) == 0


@pytest.mark.slow
def test_mpnet_s_buckets_are_not_computed_at_a_call(rows, tmp_path) -> None:
    """The runtime spreads the table when it loads the graph: of it, a call runs one cut."""
    graph, expected = exported("MPNet", rows)
    assert fusion.histogram(graph)["Log"] == 1
    mask.apply(graph, 64)
    scale.apply(graph)
    assert relative_bias.apply(graph, 64) == 2
    first_token.apply(graph)
    clean.apply(graph)
    parity.check(TASK, graph, expected, "fp32", "relative_bias")
    assert attention.apply(graph) == 2
    clean.apply(graph)
    assert not {"Log", "Abs", "Where", "Range"} & set(fusion.histogram(graph))
    assert parity.check(TASK, graph, expected, "fp32", "attention").max_difference < 1e-5
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    onnxruntime.InferenceSession(
        ir.to_proto(graph).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    loaded = ir.load(tmp_path / "loaded.onnx").graph
    assert (1, 4, 64, 64) in [tuple(each.shape) for each in loaded.initializers.values()]
    assert "distances" not in loaded.initializers


@pytest.mark.slow
def test_layers_that_kept_other_heads_take_theirs_from_one_table(rows) -> None:
    network = tiny("MPNet")
    for part, kept in zip(surgery.parts(network, "heads"), ([2], [0, 1, 2]), strict=True):
        surgery.keep_units(part, torch.tensor(kept))
    checkpoint.count_heads(network)
    graph = trace.export(network, trace.INPUTS[:2], TASK)
    names = [str(value.name) for value in graph.graph.inputs]
    expected = parity.cases(TASK, network, rows, names, PAD)
    mask.apply(graph, 64)
    assert relative_bias.apply(graph, 64) == 2
    clean.apply(graph)
    table = array(graph.graph.initializers["distances"])
    assert table is not None
    assert table.shape == (1, 3, 127), "no layer reads the fourth head"
    parity.check(TASK, graph, expected, "fp32", "relative_bias")


@pytest.mark.parametrize("name", ["Bert", "DebertaV2"])
def test_models_without_such_a_bias_stay_as_they_are(name: str, rows) -> None:
    graph, _ = exported(name, rows)
    assert relative_bias.apply(graph, 64) == 0
