"""A network with an adapter, as a base that several tasks share and a file for this task.

The base is the body without the adapter: it gives hidden states. What a task adds, low-rank weights
and a head, is in the adapter's file (``pipeline/model/runtime/adapter_file.py``). For the rewrites
and their checks, body and head are one graph, so that its answers are those of the task; then it is
cut at the hidden states.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from rarefy.exporters import trace as onnx
from rarefy.exporters.bundle.files import write_json
from rarefy.exporters.passes import clean, numbering
from rarefy.exporters.passes.graph import constant, integers, node, replace
from rarefy.exporters.passes.low_rank_branches import UP, Branch
from rarefy.pipeline.model.quantization.plan import Plan
from rarefy.pipeline.model.runtime import adapter_file, onnx_runtime
from rarefy.pipeline.model.runtime.adapter_file import FACTS, HEAD, HIDDEN, TOKENS
from rarefy.pipeline.model.runtime.bundle_files import MODEL, SIGNATURE, read
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.terms.digests import canonical_json
from rarefy.pipeline.terms.errors import ModelError

ALL = np.iinfo(np.int64).max
ADAPTER = "default"  # as peft calls the only one
LEAST = "1.20"
"""The first version of ONNX Runtime with adapters."""


class Parts(NamedTuple):
    """The two graphs of a network with an adapter, and the arrays of the adapter by input."""

    base: ir.Model
    head: ir.Model
    arrays: dict[str, NDArray[Any]]

    @property
    def rank(self) -> int:
        """The largest rank of a layer's branch."""
        return max(len(array) for name, array in self.arrays.items() if name.endswith(UP))


def is_adapted(network: Any) -> bool:
    """Return whether a network has an adapter that is not merged."""
    return hasattr(network, "merge_and_unload")


def branches(network: Any) -> dict[str, Branch]:
    """Return what the adapter of a network adds to each layer, by module."""
    by_module = {}
    for name, layer in network.get_base_model().named_modules():
        if not hasattr(layer, "lora_A"):
            continue
        down = layer.lora_A[ADAPTER].weight.detach().numpy()
        up = layer.lora_B[ADAPTER].weight.detach().numpy() * layer.scaling[ADAPTER]
        by_module[name] = Branch(down.T.copy(), up.T.astype(np.float32))
    return by_module


def trace(model: Any, input_names: tuple[str, ...], task: Task) -> ir.Model:
    """Return the graph of a network: body, the hidden states of the first tokens, and head.

    Args:
        model: the network without its low-rank weights, but with the adapter's head.
        input_names: those that the tokenizer returns.
        task: says which of the model's outputs the graph gives.

    Raises:
        ModelError: if PyTorch cannot trace the model, or the task has no head.
    """
    if task.head.body_only:
        raise ModelError(
            "export: a bundle whose adapter is a file needs a head, which "
            f"{task.name} does not have; put 'merge' before 'export'"
        )
    example = onnx.example_rows(model, input_names)
    body = onnx.graph_of(model, _body(model, tuple(example)), example, "body")
    hidden = _hidden(model, example)
    head_module = _head(model, task)
    head = onnx.graph_of(model, head_module, {HIDDEN: hidden}, task.head.output_name)
    _pick_tokens(body, _tokens_read(head_module, hidden))
    _append(body, head)
    return body


def _body(model: Any, names: tuple[str, ...]) -> Any:
    import torch

    class Body(torch.nn.Module):  # type: ignore[misc]
        """Take tensors by position, and return the last hidden states."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: Any) -> Any:
            inputs = dict(zip(names, tensors, strict=True))
            return self.model.base_model(**inputs).last_hidden_state

    return Body()


def _hidden(model: Any, example: Mapping[str, Any]) -> Any:
    import torch

    with torch.no_grad():
        return model.base_model(**example).last_hidden_state


def _head(model: Any, task: Task) -> Any:
    import torch
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    body = model.base_model

    class Head(torch.nn.Module):  # type: ignore[misc]
        """Take hidden states, and return the task's raw output."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: Any) -> Any:
            (hidden,) = tensors

            def answer(*_: Any, **__: Any) -> Any:
                pooled = None
                if getattr(body, "pooler", None) is not None:
                    pooled = body.pooler(hidden)
                return BaseModelOutputWithPooling(last_hidden_state=hidden, pooler_output=pooled)

            ones = torch.ones(hidden.shape[:2], dtype=torch.long)
            inputs = {"input_ids": ones, "attention_mask": ones}
            body.forward = answer
            try:
                output = self.model(**inputs)
            finally:
                del body.forward
            return task.head.graph_output(output, inputs, self.model.config)

    return Head().eval()


def _tokens_read(head: Any, hidden: Any) -> int:
    """Return how many first tokens a head reads: one, or all."""
    import torch

    with torch.no_grad():
        whole, first = head(hidden), head(hidden[:, :1])
    if whole.shape == first.shape and torch.allclose(whole, first, atol=1e-6):
        return 1
    return int(ALL)


def _pick_tokens(body: ir.Model, count: int) -> None:
    """Let a body give the hidden states of its first tokens, whose number is an input."""
    whole = body.graph.outputs[0]
    tokens = constant(body, TOKENS, np.array([count]))
    body.graph.inputs.append(tokens)
    start, axis = integers(body, "cut.0", [0]), integers(body, "cut.axis.1", [1])
    pick = node("Slice", [whole, start, tokens, axis], like=whole)
    assert whole.shape is not None
    hidden = pick.outputs[0]
    hidden.shape = ir.Shape(["batch", TOKENS, *whole.shape[2:]])
    hidden.name = HIDDEN
    body.graph.append(pick)
    body.graph.outputs[0] = hidden


def _append(body: ir.Model, head: ir.Model) -> None:
    """Append a head's nodes to a body's graph; its products stay in float."""
    replace(head.graph.inputs[0], body.graph.outputs[0])
    for name, value in list(head.graph.initializers.items()):
        del head.graph.initializers[name]
        value.name = f"{HEAD}.{name}"
        body.graph.initializers[value.name] = value
    nodes = list(head.graph)
    outputs = list(head.graph.outputs)
    head.graph.outputs.clear()
    head.graph.remove(nodes)
    for step in nodes:
        step.metadata_props.clear()
        step.name = f"{HEAD}.{step.name}"
        for value in step.outputs:
            if value not in outputs:
                value.name = f"{HEAD}.{value.name}"
    body.graph.extend(nodes)
    body.graph.outputs[:] = outputs


def of_body(plan: Plan, graph: ir.Model) -> Plan:
    """Return a plan without the layers of heads, which are in float and not in the base."""
    modules = {step.metadata_props.get("module") for step in graph.graph}
    linears = {name: layer for name, layer in plan.linears.items() if name in modules}
    return plan.model_copy(update={"linears": linears})


def split(graph: ir.Model) -> Parts:
    """Cut a graph at its hidden states; the base's inputs get defaults that add nothing."""
    base = graph.clone()
    arrays = {}
    hidden = _value(base, HIDDEN)
    base.graph.outputs[:] = [hidden]
    for value in base.graph.inputs:
        if value.const_value is None:
            continue
        array = value.const_value.numpy()
        arrays[str(value.name)] = array
        if value.name == TOKENS:
            value.const_value = ir.tensor(np.array([ALL]), name=TOKENS)
            continue
        assert value.shape is not None
        sizes = [size if isinstance(size, int) else 0 for size in value.shape]
        value.const_value = ir.tensor(np.zeros(sizes, array.dtype), name=value.name)
    for name in (HEAD, FACTS):  # which only carry their bytes
        empty = constant(base, name, np.zeros(0, np.uint8))
        empty.shape = ir.Shape(["bytes"])
        base.graph.inputs.append(empty)
    after = ir.convenience.extract(graph.graph, [_value(graph, HIDDEN)], list(graph.graph.outputs))
    head = ir.Model(after, ir_version=graph.ir_version)
    clean.apply(base)
    _forget_unused(base)
    for model in (base, head):
        numbering.apply(model)
    return Parts(base, head, arrays)


def _value(model: ir.Model, name: str) -> ir.Value:
    """Return the value that a node gives under a name."""
    for step in model.graph:
        for value in step.outputs:
            if value.name == name:
                return value
    raise ModelError(f"export: no node of the graph gives {name}")


def _forget_unused(model: ir.Model) -> None:
    """Remove the weights of the head."""
    weights = model.graph.initializers
    for name, value in list(weights.items()):
        if not value.uses() and not value.is_graph_input():
            del weights[name]


def base_digest(output: Path) -> str:
    """Return the digest of the base in a bundle's folder: of its graph and its tokenizer."""
    hashed = hashlib.sha256()
    for name in (MODEL, "tokenizer.json"):
        hashed.update(hashlib.sha256((output / name).read_bytes()).digest())
    return hashed.hexdigest()


def write(output: Path, parts: Parts, answers_like: str) -> None:
    """Write the adapter's file into a bundle's folder, with what its other files say now.

    ``answers_like``: the task whose program answers; see ``Presenter.answers_like``.
    """
    import onnxruntime

    signature = read(output, SIGNATURE)
    signature |= {adapter_file.ADAPTER: adapter_file.FILE, adapter_file.BASE: base_digest(output)}
    if onnx_runtime.is_earlier(signature["least_onnxruntime"], LEAST):
        signature["least_onnxruntime"] = LEAST
    write_json(output / SIGNATURE, signature)
    head = ir.to_proto(parts.head).SerializeToString(deterministic=True)
    arrays = parts.arrays | {HEAD: np.frombuffer(head, np.uint8)}
    facts = {
        "schema": adapter_file.SCHEMA,
        "sha256": adapter_file.digest(arrays),
        "rank": parts.rank,
        "answers_like": answers_like,
        "config": read(output, "config.json"),
        "signature": signature,
    }
    arrays[FACTS] = np.frombuffer(canonical_json(facts), np.uint8)
    stored = {}
    for name in sorted(arrays):
        stored[name] = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(arrays[name]))
    adapter = onnxruntime.AdapterFormat()
    adapter.set_adapter_version(1)
    adapter.set_model_version(1)
    adapter.set_parameters(stored)
    adapter.export_adapter(str(output / adapter_file.FILE))
