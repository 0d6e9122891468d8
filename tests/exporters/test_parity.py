"""A pass that changes the answers raises an error."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from exporters import parity
from pipeline.terms.errors import ModelError
from tests.exporters.graphs import exported
from tests.models import TASK


def test_a_graph_that_answers_otherwise_is_refused_by_the_name_of_the_pass(rows):
    graph, expected = exported("Bert", rows)
    weight = next(
        value for name, value in graph.graph.initializers.items() if name.endswith("weight.T")
    )

    weight.const_value = ir.tensor(weight.const_value.numpy() * 1.5)
    with pytest.raises(ModelError, match="after the pass sabotage"):
        parity.check(TASK, graph, expected, "fp32", "the pass sabotage")
