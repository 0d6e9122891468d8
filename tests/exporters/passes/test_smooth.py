"""Factors change no answer before rounding, and cost a node only where they must."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from rarefy.exporters.passes import smooth
from rarefy.exporters.passes.graph import constant, node
from rarefy.pipeline.model.quantization.plan import LinearPlan, Plan
from tests.exporters.small_graphs import finish, model, normal, operators, run

FACTORS = (4.0, 0.5, 2.0, 1.0)
LAYER = LinearPlan(precision="int8", factors=FACTORS)


def normalized(residual: bool, other: LinearPlan = LAYER, op: str = "LayerNormalization"):
    """A normalization that two products read, and perhaps a residual."""
    made, (x,) = model({"x": (["rows", 4], ir.DataType.FLOAT)})
    weights = [constant(made, "scale", normal(4)), constant(made, "bias", normal(4, seed=1))]
    biased = op == "LayerNormalization"
    norm = node(op, [x, *weights[: 1 + biased]], like=x, axis=-1)
    products = []
    for at, name in enumerate("ab"):
        weight = constant(made, f"w{at}", normal(4, 4, seed=at))
        product = node("MatMul", [norm.outputs[0], weight], like=x)
        product.metadata_props["module"] = name
        products.append(product)
    last = node("Add", [each.outputs[0] for each in products], like=x)
    nodes = [norm, *products, last]
    if residual:
        nodes.append(node("Add", [last.outputs[0], norm.outputs[0]], like=x))
    return finish(made, nodes), Plan(linears={"a": LAYER, "b": other})


@pytest.mark.parametrize(
    ("residual", "other", "divisions"),
    [
        (False, LAYER, 0),
        (True, LAYER, 1),
        (False, LinearPlan(precision="int8"), 1),
        (False, LAYER.model_copy(update={"factors": (1.0, 2.0, 3.0, 4.0)}), 2),
    ],
)
def test_answers_stay_and_only_a_residual_or_other_factors_need_a_division(
    residual, other, divisions
):
    made, plan = normalized(residual, other)
    given = normal(3, 4, seed=5)
    before = run(made, x=given)
    assert smooth.apply(made, plan) == 1 + (other.factors is not None)
    assert operators(made).count("Mul") == divisions
    np.testing.assert_allclose(run(made, x=given), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("residual", "divisions"), [(False, 0), (True, 1)])
def test_an_rms_norm_takes_the_division_too(residual, divisions):
    made, plan = normalized(residual, op="SimplifiedLayerNormalization")
    given = normal(3, 4, seed=5)
    before = run(made, x=given)
    assert smooth.apply(made, plan) == 2
    assert operators(made).count("Mul") == divisions
    np.testing.assert_allclose(run(made, x=given), before, rtol=1e-5, atol=1e-5)


def test_the_rows_of_the_weight_are_multiplied():
    made, plan = normalized(residual=True)
    smooth.apply(made, plan)
    held = made.graph.initializers["w0.smooth"].const_value.numpy()
    np.testing.assert_allclose(held, normal(4, 4) * np.array(FACTORS, np.float32)[:, None])
