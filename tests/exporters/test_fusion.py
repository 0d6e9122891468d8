"""After all passes, each family's graph is fused, answers as PyTorch does, and can be integer."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from rarefy.exporters import fusion, parity, trace
from rarefy.exporters.passes import (
    attention,
    clean,
    embeddings,
    first_token,
    integer_matmul,
    mask,
    packed,
    positions,
    qdq,
    relative_bias,
    residual,
    scale,
)
from rarefy.exporters.passes.graph import constant, node
from rarefy.pipeline.model.architectures import parts
from rarefy.pipeline.model.quantization import four_bits
from rarefy.pipeline.model.quantization.plan import LinearPlan, Plan
from rarefy.pipeline.terms.errors import ModelError
from tests.breadth import broad
from tests.exporters.families import FAMILIES, LONG, MASKS, PAD, SHORT, classifier, integer
from tests.exporters.small_graphs import finish, normal
from tests.exporters.small_graphs import model as small
from tests.models import TASK

FEW = ("bert", "mpnet", "modernbert")
"""Attention that is fused, with a shared table of positions, and with windows.

``tests/test_reach.py`` exports DeBERTa and Llama, and every pass is checked there as well.
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", broad(FAMILIES, *FEW))
def test_every_family_answers_as_in_pytorch_up_to_512_tokens(kind):
    model = classifier(kind)
    graph = trace.export(model, trace.INPUTS, TASK)
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


LARGE = {"hidden_size": 128, "intermediate_size": 256, "embedding_size": 64}
"""Weights of which the exporter does not fold a transposition if several products read them."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        *(pytest.param(*each.values, {}, marks=each.marks) for each in broad(FAMILIES, "bert")),
        ("albert", LARGE),
        pytest.param("deberta-v2", LARGE, marks=pytest.mark.long),
    ],
)
def test_every_family_answers_as_in_pytorch_with_its_weights_in_4_bits(kind, sizes):
    model = classifier(kind, **sizes)
    plan = integer(model, "dynamic")
    constant_ones = parts.position_projections(model)
    held = {
        name: model.get_submodule(name).weight
        for name in plan.linears
        if name not in constant_ones and packed.takes_int4(model.get_submodule(name).out_features)
    }
    weights = {name: four_bits.blocks(each.detach().numpy()) for name, each in held.items()}
    four_bits.put(weights, model)
    graph = trace.export(model, trace.INPUTS, TASK)
    names = [str(value.name) for value in graph.graph.inputs]
    expected = parity.cases(TASK, model, SHORT, names, PAD)
    for rewrite in (mask, scale, relative_bias, first_token, positions, attention, residual):
        rewrite.apply(graph)
        clean.apply(graph)
    integer_matmul.apply(graph, plan)
    fusion.check_integer(graph, plan.integer_modules)
    parity.check(TASK, graph, expected, "int8", "integer_matmul")
    assert packed.apply(graph, weights) >= len(weights)
    clean.apply(graph)
    parity.check(TASK, graph, expected, "int8", "packed")


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
    with pytest.raises(
        ModelError,
        match=r"0 matrix multiplications are in int8, .* has 1; .* is "
        "shared",
    ):
        fusion.check_integer(half, ["shared"])


def test_an_operator_that_fusion_should_have_removed_is_an_error():
    made, (x,) = small({"x": ([2], ir.DataType.FLOAT)})
    fusion.check_fused(finish(made, [node("Gelu", [x])]))
    made, (x,) = small({"x": ([2], ir.DataType.FLOAT)})
    with pytest.raises(ModelError, match="it still has 1 Erf"):
        fusion.check_fused(finish(made, [node("Erf", [x])]))
