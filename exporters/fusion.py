"""The operators that a graph should consist of, checked at every export.

Measured on one AVX512-VNNI core with ONNX Runtime 1.32, all-MiniLM-L6-v2, batch 1, at 16 / 32 / 64
tokens, interleaved, in ms:

| fp32 form                                                   | 16   | 32   | 64    |
|-------------------------------------------------------------|------|------|-------|
| TorchScript, runtime's optimizer: Attention, SkipLayerNorm… | 5.07 | 8.79 | 16.07 |
| the same without SkipLayerNorm, EmbedLayerNorm, BiasGelu    | 4.78 | 8.17 | 14.83 |
| dynamo, session at level ``all``                            | 5.32 | 9.22 | 16.86 |
| dynamo, Gelu fused, level ``basic``                         | 4.90 | 8.36 | 15.15 |

LayerNormalization is vectorised in this runtime (0.66 ns per element), but SkipLayerNormalization
is not (5.06 ns). Therefore Add and LayerNormalization stay separate, and the session runs at level
``basic``, at which the runtime does not fuse them. Fused Attention, which includes the products of
queries, keys and values, gains nothing on a CPU. The reference is the dynamo export with Gelu and
LayerNormalization as single operators and the attention mask in four nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import onnx_ir as ir

from rarefy.pipeline.terms.errors import ModelError

LEVEL = {"cpu": "basic", "openvino": "basic", "cuda": "all", "tensorrt": "all"}
"""ONNX Runtime's graph optimization level for each target's provider. OpenVINO has no such levels:
there it is for answering by ONNX Runtime, as machines without OpenVINO do."""
QDQ_LEVEL = "extended"
"""The least level at which the CPU provider computes pairs of quantizers in integers."""

LEFT_OVERS = ("Erf", "ReduceMean", "SkipLayerNormalization")
"""Operators that remain if GELU or a normalization was not rewritten as it should."""


def histogram(model: ir.Model) -> Counter[str]:
    """Count each operator of the graph, those in the branches of an If too."""
    return Counter(node.op_type for node in model.graph.all_nodes())


def check_fused(model: ir.Model) -> None:
    """Raise ModelError if an operator is left that fusion should have removed."""
    counts = histogram(model)
    left = {op: counts[op] for op in LEFT_OVERS if counts[op]}
    if left:
        unfused = ", ".join(f"{count} {op}" for op, count in left.items())
        raise ModelError(f"export: the graph is not fused as expected: it still has {unfused}")


def check_integer(model: ir.Model, planned: Iterable[str]) -> None:
    """Raise ModelError unless the layers whose weights are int8 are those of the plan.

    A layer that the model uses several times has several products, and all must be int8.
    """
    integer = set[str]()
    floating = set[str]()
    for node in model.graph:
        module = node.metadata_props.get("module")
        if not module or node.op_type not in ("MatMulIntegerToFloat", "MatMul"):
            continue
        weight = node.inputs[1]
        if node.op_type == "MatMul" and weight is not None and weight.is_initializer():
            floating.add(module)
        elif weight is not None:
            integer.add(module)
    in_int8 = integer - floating
    expected = set(planned)
    if in_int8 != expected:
        first = min(in_int8 ^ expected)
        raise ModelError(
            f"export: {len(in_int8)} matrix multiplications are in int8, but the quantization "
            "plan has "
            f"{len(expected)}; the first difference is {first}"
        )
