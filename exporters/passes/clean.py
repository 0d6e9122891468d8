"""Remove unused nodes, merge common subexpressions, and sort the nodes topologically."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common


def apply(model: ir.Model) -> int:
    """Clean the graph. Returns the number of nodes removed."""
    before = len(model.graph)
    common.CommonSubexpressionEliminationPass()(model)
    common.RemoveUnusedNodesPass()(model)
    common.TopologicalSortPass()(model)
    return before - len(model.graph)
