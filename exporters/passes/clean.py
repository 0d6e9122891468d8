"""Take out what nothing reads, share what is computed twice, and put the rest in order."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common


def apply(model: ir.Model) -> int:
    """Return the number of nodes that went."""
    before = len(model.graph)
    common.CommonSubexpressionEliminationPass()(model)
    common.RemoveUnusedNodesPass()(model)
    common.TopologicalSortPass()(model)
    return before - len(model.graph)
