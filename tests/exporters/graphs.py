"""Exported graphs of tiny models, each traced once, and PyTorch's answers."""

from __future__ import annotations

import onnx_ir as ir

from rarefy.exporters import parity, trace
from tests.exporters.conftest import tiny
from tests.models import TASK

INPUTS = {"Bert": trace.INPUTS, "Electra": trace.INPUTS}
PAD = 1  # RoBERTa and MPNet count positions from the padding id
TRACED = {}


def exported(name, rows):
    """Return a fresh copy of the graph, which is traced once, and PyTorch's answers."""
    if name not in TRACED:
        model = tiny(name)
        graph = trace.export(model, INPUTS.get(name, trace.INPUTS[:2]), TASK)
        names = [value.name for value in graph.graph.inputs]
        TRACED[name] = ir.to_proto(graph), parity.cases(TASK, model, rows, names, PAD)
    proto, expected = TRACED[name]
    return ir.from_proto(proto), expected
