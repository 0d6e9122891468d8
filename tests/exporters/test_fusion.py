"""After all passes, each family's graph is fused, answers as PyTorch does, and can be integer."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from exporters import fusion, onnx, parity
from exporters.passes import (
    attention,
    blockwise_matmul,
    clean,
    embeddings,
    first_token,
    integer_matmul,
    mask,
    positions,
    qdq,
    relative_bias,
    residual,
    scale,
)
from exporters.passes.graph import constant, node
from pipeline.model import blockwise
from pipeline.model.quantization import LinearPlan, Plan
from pipeline.terms.errors import ModelError
from tests.exporters.families import FAMILIES, LONG, MASKS, PAD, SHORT, classifier, integer
from tests.exporters.small_graphs import finish, normal
from tests.exporters.small_graphs import model as small
from tests.models import TASK


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_answers_as_in_pytorch_up_to_512_tokens(kind):
    model = classifier(kind)
    graph = onnx.export(model, onnx.INPUTS, TASK)
    names = [str(value.name) for value in graph.graph.inputs]
    expected = parity.cases(TASK, model, SHORT, names, PAD, LONG)
    parity.check(TASK, graph, expected, "fp32", "tracing")
    for rewrite in (mask, scale, relative_bias, first_token, positions, attention, residual):
        count = rewrite.apply(graph)
        clean.apply(graph)
        parity.check(TASK, graph, expected, "fp32", rewrite.__name__)
        if rewrite is mask:
            assert count == MASKS.get(kind, 2)
        if rewrite is relative_bias:
            assert count == (2 if kind == "mpnet" else 0)
    fusion.check_fused(graph)
    assert embeddings.apply(graph)
    proto = ir.to_proto(graph)
    plans = {mode: integer(model, mode) for mode in ("dynamic", "static")}
    for mode, rewrite in (
        ("dynamic", integer_matmul), ("static", integer_matmul), ("static", qdq),
    ):  # fmt: skip
        plan, copy = plans[mode], ir.from_proto(proto)
        assert rewrite.apply(copy, plan) >= len(plan.linears)
        clean.apply(copy)
        fusion.check_integer(copy, plan.integer_modules)
        parity.check(TASK, copy, expected, "int8", f"{mode}, {rewrite.__name__}")
    four, weights = in_int4(model, list(plans["dynamic"].linears))
    copy = ir.from_proto(proto)
    assert blockwise_matmul.apply(copy, four, weights) >= len(weights)
    clean.apply(copy)
    fusion.check_integer(copy, [], four.int4_modules)
    rounded = {name: made.values() for name, made in weights.items()}
    expected = parity.with_weights(TASK, model, expected, rounded)
    parity.check(TASK, copy, expected, "int8", "weights in 4 bits")


def in_int4(model, names):
    """Return a plan with these layers in int4, and their weights, rounded to the nearest step."""
    linears = {name: LinearPlan(precision="int4") for name in names}
    held = {name: model.get_submodule(name).weight.detach().numpy() for name in names}
    return Plan(linears=linears), {name: blockwise.blocks(each) for name, each in held.items()}


def used_twice() -> ir.Model:
    """Return a graph that multiplies by the same layer's weight twice."""
    made, (x,) = small({"x": (["rows", 4], ir.DataType.FLOAT)})
    weight = constant(made, "shared.weight.T", normal(4, 4))
    first = node("MatMul", [x, weight], like=x)
    second = node("MatMul", [first.outputs[0], weight], like=x)
    for product in (first, second):
        product.metadata_props["module"] = "shared"
    return finish(made, [first, second])


def test_a_layer_that_is_used_twice_is_integer_only_if_both_products_are():
    plan = Plan(linears={"shared": LinearPlan(precision="int8")})
    graph = used_twice()
    assert integer_matmul.apply(graph, plan) == 2
    fusion.check_integer(graph, ["shared"])
    half = used_twice()
    del half.graph[1].metadata_props["module"]
    integer_matmul.apply(half, plan)
    half.graph[-1].metadata_props["module"] = "shared"
    with pytest.raises(ModelError, match=r"0 matrix products have weights of 8 bits, .* is shared"):
        fusion.check_integer(half, ["shared"])


def test_an_operator_that_fusion_should_have_removed_is_an_error():
    made, (x,) = small({"x": ([2], ir.DataType.FLOAT)})
    fusion.check_fused(finish(made, [node("Gelu", [x])]))
    made, (x,) = small({"x": ([2], ir.DataType.FLOAT)})
    with pytest.raises(ModelError, match="it still has 1 Erf"):
        fusion.check_fused(finish(made, [node("Erf", [x])]))
