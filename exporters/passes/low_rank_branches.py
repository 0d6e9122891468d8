"""Add the branch of an adapter to each layer that has one: y = xW + b + (xA)B.

A and B are inputs of the graph, so one graph serves all adapters of its layers, of any rank. They
have defaults, here those of the adapter with which the rewrites are checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from rarefy.exporters.passes.graph import constant, node, only_consumer
from rarefy.exporters.passes.scale import FACTOR

DOWN, UP = ".lora_A", ".lora_B"
"""How the names of a branch's inputs end."""
RANK = "rank"
"""The graph's name for the size that adapters may choose."""


class Branch(NamedTuple):
    """What an adapter adds to a layer: ``down``, inputs × rank, and ``up``, rank × outputs.

    The adapter's scale is in ``up``.
    """

    down: NDArray[np.float32]
    up: NDArray[np.float32]


def apply(model: ir.Model, branches: Mapping[str, Branch]) -> int:
    """Add the branch of each module to its products. Returns the number of products."""
    count = 0
    for product in list(model.graph):
        module = product.metadata_props.get("module") or ""
        branch = branches.get(module)
        if branch is None or product.op_type != "MatMul":
            continue
        count += 1
        last = only_consumer(product.outputs[0], "Add") or product
        output = last.outputs[0]
        factor = float(product.metadata_props.get(FACTOR, 1))  # of scores, in a query's weights
        scaled = (branch.up * factor).astype(np.float32)
        down = _input(model, f"{module}{DOWN}", branch.down, 1)
        up = _input(model, f"{module}{UP}", scaled, 0)
        source = product.inputs[0]
        narrow = node("MatMul", [source, down], like=output)
        wide = node("MatMul", [narrow, up], like=output)
        readers = list(output.uses())
        total = node("Add", [output, wide], like=output)
        total.outputs[0].shape = output.shape
        model.graph.insert_after(last, [narrow, wide, total])
        for reader, at in readers:
            reader.replace_input_with(at, total.outputs[0])
    return count


def _input(model: ir.Model, name: str, default: NDArray[np.float32], axis: int) -> ir.Value:
    """Return an input of the graph; create it on first use.

    Args:
        model: with the graph.
        name: of the input.
        default: what it is if a call does not give it.
        axis: whose size is the rank.
    """
    value = constant(model, name, np.ascontiguousarray(default))
    if value.is_graph_input():
        return value
    sizes: list[int | str] = list(default.shape)
    sizes[axis] = RANK
    value.shape = ir.Shape(sizes)
    model.graph.inputs.append(value)
    return value
