"""Write the sums before normalizations as ``Sum``, which ONNX Runtime does not fuse with them.

At its default optimization level the runtime makes ``SkipLayerNormalization`` of ``Add`` and
``LayerNormalization``, and on a CPU that takes seven times as long as both (see ``fusion``).
Bundles ask for the level ``basic``, but those who load the graph themselves (Triton,
transformers.js) use the default, and the whole model then took 10 to 23 % longer. ``Sum`` of two is
the same kernel.
"""

from __future__ import annotations

import onnx_ir as ir

from exporters.passes.graph import consumers

NORMALIZATIONS = ("LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization")


def apply(model: ir.Model) -> int:
    """Rename each ``Add`` that a normalization reads. Returns their number."""
    count = 0
    for step in model.graph:
        readers = consumers(step.outputs[0]) if step.op_type == "Add" else []
        if any(reader.op_type in NORMALIZATIONS for reader in readers):
            step.op_type = "Sum"
            count += 1
    return count
