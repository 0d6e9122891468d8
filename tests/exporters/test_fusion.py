"""After all passes, each architecture's attention is fused and its products are integer."""

from __future__ import annotations

import pytest

from exporters import fusion, parity
from exporters.passes import clean, embeddings, first_token, integer_matmul, mask, scale
from pipeline.model.quantization import LinearPlan, Plan
from tests.exporters.conftest import tiny
from tests.exporters.graphs import exported


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Bert", "Roberta", "DistilBert", "MPNet", "Electra"])
def test_every_architecture_passes_every_pass(name, rows):
    graph, expected = exported(name, rows)
    for rewrite in (mask, scale, first_token):
        assert rewrite.apply(graph), rewrite.__name__
        clean.apply(graph)
        parity.check(graph, expected, "fp32", rewrite.__name__)
    fusion.check_fused(graph)
    assert embeddings.apply(graph) >= 2
    clean.apply(graph)
    modules = [node.metadata_props.get("module") for node in graph.graph]
    names = [module for module in modules if module and "classifier" not in module]
    assert len(names) >= 12
    assert set(names) <= {module for module, _ in tiny(name).named_modules()}
    plan = Plan(linears={module: LinearPlan(precision="int8") for module in names})
    assert integer_matmul.apply(graph, plan) == len(names)
    clean.apply(graph)
    fusion.check_integer(graph, names)
    close = parity.check(graph, expected, "int8", "integer_matmul")
    assert close.agreement > 0.9
