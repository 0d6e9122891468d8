"""Unused values are removed, and duplicate computations are merged."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rarefy.exporters.passes import clean
from rarefy.exporters.passes.graph import node
from tests.exporters.small_graphs import finish, model, normal, operators, run


def test_twins_and_dead_ends_go_and_the_answer_stays() -> None:
    made, (x,) = model({"x": ([3], ir.DataType.FLOAT)})
    one, twin = node("Exp", [x]), node("Exp", [x])
    dead = node("Abs", [x])
    both = node("Add", [one.outputs[0], twin.outputs[0]])
    graph = finish(made, [one, twin, dead, both])
    assert clean.apply(graph) == 2
    assert operators(graph) == ["Exp", "Add"]
    given = normal(3)
    np.testing.assert_allclose(run(graph, x=given), 2 * np.exp(given), rtol=1e-6)
    assert clean.apply(graph) == 0
