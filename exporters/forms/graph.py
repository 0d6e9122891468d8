"""Copy a bundle's graph under another name, and let it give its token embeddings as well."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from rarefy.exporters.forms.source import Source
from rarefy.exporters.saving import WEIGHTS
from rarefy.pipeline.model.runtime.bundle_files import MODEL
from rarefy.pipeline.terms.errors import ModelError

HIDDEN = "last_hidden_state"
"""What transformers calls the embeddings of a text's tokens."""
THROUGH = ("Cast", "Clip", "Div", "ReduceSum", "Sqrt", "Squeeze")
"""The operators between a text's embedding and those of its tokens, along the first input."""


def copy(source: Source, target: Path, *, weights: str | None = None, hidden: bool = False) -> None:
    """Write the graph to ``target``, and its weights beside it if they are in a file of their own.

    ``weights``: the name of that file. ``hidden``: let the graph give ``last_hidden_state`` first:
    one embedding for each token, before they are pooled. Raises ModelError if it has none.
    """
    beside = (source.folder / WEIGHTS).is_file()
    if not beside and not hidden:
        shutil.copyfile(source.folder / MODEL, target)
        return
    import onnx

    graph = onnx.ModelProto()
    graph.CopyFrom(source.graph)
    if hidden:
        _give_hidden(graph, str(source.output["name"]), int(source.output["shape"][-1]))
    if beside:
        weights = weights or WEIGHTS
        _rename(graph, weights)
        shutil.copyfile(source.folder / WEIGHTS, target.with_name(weights))
    target.write_bytes(graph.SerializeToString())


def _rename(model: Any, weights: str) -> None:
    """Let the external tensors refer to another file."""
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = weights


def _give_hidden(model: Any, output: str, width: int) -> None:
    """Add the embeddings of a text's tokens, in fp32, as the graph's first output.

    If they are pooled by the first token, the last layer may be computed for that one alone; then
    there is one embedding for each text, and the pooling of the first token finds it as well.
    """
    import onnx

    tokens = _before_pooling(model.graph, output)
    to = onnx.TensorProto.FLOAT
    model.graph.node.append(onnx.helper.make_node("Cast", [tokens], [HIDDEN], to=to))
    shape = ["batch", "tokens", width]
    hidden = onnx.helper.make_tensor_value_info(HIDDEN, to, shape)
    outputs = [hidden, *model.graph.output]
    del model.graph.output[:]
    model.graph.output.extend(outputs)


def _before_pooling(graph: Any, output: str) -> str:
    """Return the value that is pooled; see ``similarity.pooled`` for the operators on the way."""
    producers = {}
    for step in graph.node:
        for name in step.output:
            producers[name] = step
    value = output
    while value in producers:
        step = producers[value]
        if step.op_type == "Mul":  # by the mask, for the mean
            others = [name for name in step.input if not _of_mask(producers, name)]
            if len(others) == 1:
                return str(others[0])
            break
        if step.op_type == "GatherElements":  # the last token
            return str(step.input[0])
        if step.op_type == "Gather":  # the first token, or of one that was found
            source = producers.get(step.input[0])
            if source is None or source.op_type != "GatherElements":
                return str(step.input[0])
        elif step.op_type not in THROUGH:
            break
        value = step.input[0]
    raise ModelError(
        "the graph does not give the embeddings of single tokens, which sentence-transformers "
        "and transformers.js pool themselves"
    )


def _of_mask(producers: dict[str, Any], name: str) -> bool:
    """Return whether a value is the attention mask in another shape or type."""
    while name in producers and producers[name].op_type in ("Cast", "Unsqueeze", "Expand"):
        name = producers[name].input[0]
    return name == "attention_mask"
