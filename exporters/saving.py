"""Write a graph, and open it in ONNX Runtime; large weights lie in a file beside the graph.

A protobuf message holds less than two gigabytes: XLM-RoBERTa large in fp32 has more.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnx_ir as ir

from pipeline.model.runtime import MODEL

WEIGHTS = f"{MODEL}.data"
LIMIT = 1_900_000_000
"""Bytes of weights that fit into the graph's own file, and leave room for its nodes."""


def save(graph: ir.Model, folder: Path) -> int:
    """Write ``model.onnx``, and ``model.onnx.data`` if it is too large; return their bytes."""
    beside = WEIGHTS if _weights(graph) > LIMIT else None
    ir.save(graph, folder / MODEL, external_data=beside)
    written = [folder / MODEL, *([folder / beside] if beside else [])]
    return sum(path.stat().st_size for path in written)


def session(graph: ir.Model, options: Any) -> Any:
    """Return a session on the CPU; a large graph is written to a temporary folder first."""
    import onnxruntime

    providers = ["CPUExecutionProvider"]
    if _weights(graph) <= LIMIT:
        message = ir.to_proto(graph).SerializeToString()
        return onnxruntime.InferenceSession(message, options, providers=providers)
    with tempfile.TemporaryDirectory(prefix="rarefy-graph-") as name:
        save(graph, Path(name))
        return onnxruntime.InferenceSession(f"{name}/{MODEL}", options, providers=providers)


def _weights(graph: ir.Model) -> int:
    values = graph.graph.initializers.values()
    return sum(value.const_value.nbytes for value in values if value.const_value is not None)
