"""A traced graph with another model's weights is what tracing that model gives."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from rarefy.exporters import trace
from rarefy.exporters.passes import mask
from tests import tracing
from tests.breadth import broad
from tests.exporters.families import MASKS, classifier
from tests.models import TASK


def shuffled(model: Any) -> Any:
    """Give a model other weights."""
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Trace once from now on, with nothing known yet; return what is traced."""
    seen, real = [], inspect.unwrap(trace.trace)

    def counted(module: Any, example: dict[str, Any], output: str) -> ir.Model:
        seen.append(module)
        traced: ir.Model = real(module, example, output)
        return traced

    monkeypatch.setattr(trace, "trace", tracing.once(counted, tmp_path))
    return seen


def _value(attribute: ir.Attr) -> Any:
    return (
        np.float32(attribute.value) if attribute.type == ir.AttributeType.FLOAT else str(attribute)
    )


def told(graph: ir.Model) -> list[Any]:
    """Return nodes, with their inputs and attributes, and the bytes of all weights.

    A number is as in a file, in fp32.
    """
    nodes = [
        (
            node.op_type,
            [value and value.name for value in node.inputs],
            [(name, _value(given)) for name, given in sorted(node.attributes.items())],
            dict(node.metadata_props),
        )
        for node in graph.graph
    ]
    weights = graph.graph.initializers.items()
    return [nodes, [(name, value.const_value.numpy().tobytes()) for name, value in weights]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", broad(("bert", "deberta-v2"), "bert"))
def test_another_models_graph_has_its_own_weights(
    kind: str, traces: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trace.export(classifier(kind), trace.INPUTS, TASK)
    other = trace.export(shuffled(classifier(kind)), trace.INPUTS, TASK)
    assert len(traces) == 1
    monkeypatch.setattr(trace, "trace", inspect.unwrap(trace.trace))
    really = trace.export(shuffled(classifier(kind)), trace.INPUTS, TASK)
    assert told(other) == told(really)
    for graph in (other, really):  # a new node has a name of its own
        assert mask.apply(graph) == MASKS.get(kind, 2)
        names = [node.name for node in graph.graph]
        assert len(set(names)) == len(names)
    assert told(other) == told(really)
    assert told(first) != told(other)


@pytest.mark.slow
def test_a_model_with_equal_weights_is_no_pattern_for_others(traces: list[Any]) -> None:
    """The exporter keeps one of them: another model's weights, which differ, would share it."""
    fresh = classifier("bert")
    norms = [part for part in fresh.modules() if isinstance(part, torch.nn.LayerNorm)]
    with torch.no_grad():
        for norm in norms:
            norm.weight.fill_(1.0)
    for model in (fresh, shuffled(classifier("bert")), shuffled(classifier("bert"))):
        trace.export(model, trace.INPUTS, TASK)
    assert len(traces) == 2


def test_what_is_built_otherwise_is_traced_anew() -> None:
    def structure(model: Any, name: str = "input_ids") -> str | None:
        return tracing._structure(model, {name: torch.ones(2, 3)}, "logits")

    model = classifier("bert")
    usual = structure(model)
    assert usual == structure(shuffled(classifier("bert")))
    assert usual != structure(model, "ids")
    assert usual != structure(classifier("bert", hidden_size=64))
    model.bert.embeddings.position_ids[0, 3] = 4
    assert usual != structure(model)
    model = classifier("bert")
    model.config.hidden_act = "relu"
    assert usual != structure(model)
    model.bert.forward = lambda *_: None
    assert structure(model) is None, "nobody knows what it computes"


def test_a_weight_that_the_tracer_has_computed_with_is_not_taken_for_another() -> None:
    linear = torch.nn.Linear(3, 4)
    doubled = (2 * linear.weight.detach()).numpy()
    value = ir.Value(name="val_1", const_value=ir.tensor(doubled))
    graph = ir.Graph([], [], nodes=[], initializers=[value])
    assert tracing._kept(ir.Model(graph, ir_version=10), linear) is None
    value.const_value = ir.tensor(np.ascontiguousarray(doubled.T / 2))
    found = tracing._kept(ir.Model(graph, ir_version=10), linear)
    assert found is not None
    assert found.weights == {"val_1": ("weight", True)}
