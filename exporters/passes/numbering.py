"""Give the exporter's numbered names, and the order of weights, what follows from the graph alone.

The exporter counts every value that it makes, also those that it drops again. In one of some fifty
exports, it made one more, and took two weights in another order. The same model then had the same
graph in another file, with another digest.
"""

from __future__ import annotations

import re

import onnx_ir as ir

NUMBERED = re.compile(r"val_\d+")


def apply(model: ir.Model) -> int:
    """Number nodes, and values in the order in which nodes use or make them; order the weights so.

    Returns the number of values. Names that say something, such as those of weights, stay.
    """
    used = [v for node in model.graph for v in (*node.inputs, *node.outputs) if v is not None]
    found = dict.fromkeys(value for value in used if NUMBERED.fullmatch(value.name or ""))
    for form in ("renamed_{}", "val_{}"):  # a new name may be one that another value still has
        for number, value in enumerate(found):
            value.name = form.format(number)
    for number, node in enumerate(model.graph):
        node.name = f"node_{node.op_type}_{number}"
    weights = model.graph.initializers
    for value in dict.fromkeys(value for value in used if value.is_initializer()):
        weights[str(value.name)] = weights.pop(str(value.name))
    return len(found)
