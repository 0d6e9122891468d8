"""Write a graph, and open it in ONNX Runtime; large weights lie in a file beside the graph.

A protobuf message holds less than two gigabytes: XLM-RoBERTa large in fp32 has more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from rarefy.pipeline.model.runtime.bundle_files import MODEL

WEIGHTS = f"{MODEL}.data"
LIMIT = 1_900_000_000
"""Bytes of weights that fit into the graph's own file, and leave room for its nodes."""
LEAST = 1024
"""Bytes; smaller constants, such as shapes, stay in the graph, where its optimizer reads them."""


def save(graph: ir.Model, folder: Path) -> int:
    """Write ``model.onnx``, and ``model.onnx.data`` if it is too large; return their bytes."""
    _name_domains(graph)
    paths = [folder / MODEL]
    if _weights(graph) > LIMIT:
        ir.save(graph, folder / MODEL, external_data=WEIGHTS)
        paths.append(folder / WEIGHTS)
    else:
        ir.save(graph, folder / MODEL)
    return sum(path.stat().st_size for path in paths)


def session(graph: ir.Model, options: Any) -> Any:
    """Return a session on the CPU that reads the graph's own weights, whatever their size.

    They are neither serialized nor copied, but for those that nothing reads: the runtime has
    forgotten these when it looks for them. ``options`` belong to this session afterwards.
    """
    import onnxruntime

    tensors = {}
    weights = {}
    for value in graph.graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.nbytes < LEAST or not value.uses():
            continue
        numbers = np.ascontiguousarray(tensor.numpy())
        tensors[value] = tensor
        weights[str(value.name)] = onnxruntime.OrtValue.ortvalue_from_numpy(numbers)
    try:
        for value, tensor in tensors.items():
            name = str(value.name)
            value.const_value = ir.ExternalTensor(
                WEIGHTS,
                0,
                tensor.nbytes,
                tensor.dtype,
                shape=ir.Shape(weights[name].shape()),
                name=name,
                base_dir="",
            )
        message = ir.to_proto(graph).SerializeToString()
    finally:
        for value, tensor in tensors.items():
            value.const_value = tensor
    options.add_external_initializers(list(weights), list(weights.values()))
    opened = onnxruntime.InferenceSession(message, options, providers=["CPUExecutionProvider"])
    opened.rarefy_weights = weights  # the runtime does not keep them alive
    return opened


def _name_domains(graph: ir.Model) -> None:
    """Import the domain of every operator: ONNX Runtime knows its own, onnx's checker asks."""
    for node in graph.graph.all_nodes():
        graph.graph.opset_imports.setdefault(node.domain, 1)


def _weights(graph: ir.Model) -> int:
    values = graph.graph.initializers.values()
    return sum(value.const_value.nbytes for value in values if value.const_value is not None)
