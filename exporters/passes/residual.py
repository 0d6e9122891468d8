"""Write the sums before normalizations as ``Sum``, which ONNX Runtime does not fuse with them.

At its default optimization level the runtime makes ``SkipLayerNormalization`` of ``Add`` and
``LayerNormalization``, and on a CPU that takes seven times as long as both (see ``fusion``).
Bundles ask for the level ``basic``, but those with pairs of quantizers for ``extended``, which also
fuses, and those who load the graph themselves (Triton, transformers.js) use the default. The whole
model then took 10 to 41 % longer. ``Sum`` of two is the same kernel. A sum of sums, as of the
embeddings of tokens, types and positions, is one ``Sum``.
"""

from __future__ import annotations

import onnx_ir as ir

from exporters.passes.graph import array, consumers, producer

NORMALIZATIONS = ("LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization")


def apply(model: ir.Model) -> int:
    """Rename each ``Add`` that a normalization reads. Returns their number."""
    count = 0
    for step in model.graph:
        if step.op_type != "Add":
            continue
        readers = consumers(step.outputs[0])
        if any(reader.op_type in NORMALIZATIONS for reader in readers):
            step.op_type = "Sum"
            _widen(model, step)
            count += 1
    return count


def _widen(model: ir.Model, total: ir.Node) -> None:
    """Add up in one step what a sum has from other sums; a bias stays with its product."""
    for value in list(total.inputs):
        part = producer(value, "Add")
        if part is None or len(consumers(part.outputs[0])) > 1:
            continue
        if part.outputs[0].is_graph_output():
            continue
        if any(term is None or array(term) is not None for term in part.inputs):
            continue
        terms = [*part.inputs, *(other for other in total.inputs if other is not value)]
        total.resize_inputs(len(terms))
        for at, term in enumerate(terms):
            total.replace_input_with(at, term)
        model.graph.remove(part, safe=True)
