"""Normalizations written out in plain operators become one operator."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch

from rarefy.exporters.passes import clean, normalization
from rarefy.exporters.passes.graph import constant, node
from tests.exporters.small_graphs import finish, model, normal, operators, run

EPSILON = 1e-5


def written_out(*, centred: bool, divided: bool, axis: int = -1) -> ir.Model:
    """RMSNorm, or a layer norm if ``centred``; as a trace has it, with weight and bias."""
    made, (x,) = model({"x": (["rows", 6], ir.DataType.FLOAT)})
    x.shape = ir.Shape(["rows", 6])
    last = constant(made, "axis", np.array([axis]))
    two, epsilon = (constant(made, str(n), np.array(n, dtype=np.float32)) for n in (2.0, EPSILON))
    steps = []
    source = x
    if centred:
        mean = node("ReduceMean", [x, last], keepdims=1)
        steps += [mean, node("Sub", [x, mean.outputs[0]])]
        source = steps[-1].outputs[0]
        source.shape = x.shape
    square = node("Pow", [source, two])
    spread = node("ReduceMean", [square.outputs[0], last], keepdims=1)
    wide = node("Add", [spread.outputs[0], epsilon])
    root = node("Sqrt", wide.outputs)
    steps += [square, spread, wide, root]
    if divided:
        steps.append(node("Div", [source, root.outputs[0]]))
    else:
        inverse = node("Reciprocal", root.outputs)
        steps += [inverse, node("Mul", [source, inverse.outputs[0]])]
    steps.append(node("Mul", [constant(made, "w", normal(6)), steps[-1].outputs[0]]))
    if centred:
        steps.append(node("Add", [steps[-1].outputs[0], constant(made, "b", normal(6, seed=1))]))
    return finish(made, steps)


@pytest.mark.parametrize("divided", [True, False])
@pytest.mark.parametrize("centred", [True, False])
def test_one_operator_gives_what_torch_gives(centred: bool, divided: bool) -> None:
    graph = written_out(centred=centred, divided=divided)
    assert normalization.apply(graph) == 1
    clean.apply(graph)
    assert operators(graph) == ["LayerNormalization" if centred else "SimplifiedLayerNormalization"]
    x, weight, bias = (
        torch.tensor(normal(*shape, seed=s)) for shape, s in (((3, 6), 4), ((6,), 0), ((6,), 1))
    )
    if centred:
        want = torch.nn.functional.layer_norm(x, (6,), weight, bias, EPSILON)
    else:
        want = torch.nn.functional.rms_norm(x, (6,), weight, EPSILON)
    np.testing.assert_allclose(run(graph, x=x.numpy()), want.numpy(), atol=1e-5)


def test_a_mean_over_another_axis_is_no_normalization() -> None:
    assert normalization.apply(written_out(centred=False, divided=True, axis=0)) == 0
