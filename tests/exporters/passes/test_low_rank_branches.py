"""A layer with a branch adds (xA)B, of whichever adapter is given."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime

from rarefy.exporters.passes import low_rank_branches
from rarefy.exporters.passes.graph import constant, node
from rarefy.exporters.passes.low_rank_branches import Branch
from rarefy.exporters.passes.scale import FACTOR
from tests.exporters.small_graphs import finish, model, normal, run

WEIGHT, BIAS = normal(6, 4), normal(4, seed=1)
X = normal(2, 3, 6, seed=2)


def layer(factor=None, *, biased=True):
    """Return a graph of one linear layer, ``dense``."""
    made, (source,) = model({"x": (["batch", "tokens", 6], ir.DataType.FLOAT)})
    product = node("MatMul", [source, constant(made, "dense.weight.T", WEIGHT)], like=source)
    product.metadata_props["module"] = "dense"
    if factor:
        product.metadata_props[FACTOR] = repr(factor)
    nodes = [product]
    if biased:
        nodes.append(node("Add", [product, constant(made, "dense.bias", BIAS)], like=source))
    nodes.append(node("Tanh", [nodes[-1]], like=source))
    return finish(made, nodes)


def branch(rank, seed=3):
    return Branch(normal(6, rank, seed=seed), normal(rank, 4, seed=seed + 1))


def expected(down, up, bias=BIAS):
    return np.tanh(X @ WEIGHT + bias + X @ down @ up)


def test_a_branch_is_added_to_a_layer_and_another_can_be_given():
    graph = layer()
    own, other = branch(2), branch(3, seed=9)
    assert low_rank_branches.apply(graph, {"dense": own, "elsewhere": own}) == 1
    np.testing.assert_allclose(run(graph, x=X), expected(*own), atol=1e-5)
    given = {"dense.lora_A": other.down, "dense.lora_B": other.up}
    np.testing.assert_allclose(run(graph, x=X, **given), expected(*other), atol=1e-5)


def test_a_layer_without_a_bias_has_a_branch_too():
    graph = layer(biased=False)
    low_rank_branches.apply(graph, {"dense": branch(2)})
    np.testing.assert_allclose(run(graph, x=X), expected(*branch(2), bias=0), atol=1e-5)


def test_a_factor_in_the_weights_of_a_query_is_in_its_branch():
    graph = layer(factor=0.5)  # as if the weight were halved already
    low_rank_branches.apply(graph, {"dense": branch(2)})
    down, up = branch(2)
    np.testing.assert_allclose(run(graph, x=X), expected(down, up / 2), atol=1e-5)


def test_a_session_needs_no_branch():
    graph = layer()
    low_rank_branches.apply(graph, {"dense": branch(2)})
    session = onnxruntime.InferenceSession(ir.to_proto(graph).SerializeToString())
    assert [value.name for value in session.get_inputs()] == ["x"]


def test_layers_that_no_adapter_changes_stay_as_they_are():
    graph = layer()
    assert low_rank_branches.apply(graph, {}) == 0
    assert len(graph.graph) == 3
