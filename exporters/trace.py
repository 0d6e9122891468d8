"""Export a PyTorch model as an ONNX graph with our names for axes, inputs and weights.

The graph comes from ``torch.onnx.export(dynamo=True)``. Every linear layer becomes MatMul + Add,
and its nodes carry the path of their module, by which a quantization plan finds them. The
exporter's notes on the nodes (stack traces with local paths) are removed.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir

from rarefy.exporters.passes import clean, constant, linear, normalization, numbering
from rarefy.exporters.passes.graph import array, replace
from rarefy.exporters.passes.graph import constant as make_constant
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.terms.errors import ModelError

OPSET = 20  # the first with a Gelu operator
IR_VERSION = 10
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
SCOPES = "pkg.torch.onnx.name_scopes"


def export(model: Any, input_names: tuple[str, ...], task: Task) -> ir.Model:
    """Trace ``model`` and return its graph.

    Args:
        model: a PreTrainedModel with the task's head.
        task: says which of the model's outputs the graph gives (``Head.graph_output``).
        input_names: the ``INPUTS`` that the tokenizer returns; each is batch × sequence, int64.

    Returns:
        A graph with the inputs that the model takes and one output, e.g. logits: batch × labels.

    Raises:
        ModelError: if PyTorch cannot trace the model, or the model takes no attention mask.
    """
    example = example_rows(model, input_names)
    module = _output_of(model, tuple(example), task)
    return graph_of(model, module, example, task.head.output_name)


def example_rows(model: Any, input_names: tuple[str, ...]) -> dict[str, Any]:
    """Return two rows of tokens to trace a model with, by input; see ``export``."""
    import torch

    takes = inspect.signature(model.forward).parameters
    names = tuple(name for name in INPUTS if name in input_names and name in takes)
    if "attention_mask" not in names:
        raise ModelError(
            f"{type(model).__name__} cannot be exported: it takes no attention mask, so padding "
            "would change its predictions"
        )
    # Use two rows of different length: the exporter would make an axis of size one a constant.
    example = {name: torch.ones((2, 9), dtype=torch.long) for name in names}
    example["attention_mask"][1, 6:] = 0
    if "token_type_ids" in example:
        example["token_type_ids"].zero_()
    return example


def graph_of(model: Any, module: Any, example: dict[str, Any], output: str) -> ir.Model:
    """Return the graph of a module that runs a model, or a part of it, on these inputs.

    Args:
        model: a PreTrainedModel.
        module: takes the inputs by position, and has the model as its attribute ``model``.
        example: the inputs, each of rows × tokens or more axes, by name.
        output: the name of what the module returns.

    Raises:
        ModelError: if PyTorch cannot trace it.
    """
    import torch

    with _eager_attention(model), _whole_gelu(model), _quiet(), torch.no_grad():
        try:
            graph = trace(module.eval(), example, output)
        except Exception as error:
            cause = error.__cause__ or error
            reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
            raise ModelError(f"{type(model).__name__} cannot be exported: {reason}") from error
    _name_axes(graph)
    _turn_weights(graph)
    _name_weights(graph)
    linear.apply(graph)
    constant.apply(graph)
    normalization.apply(graph)
    _forget_traces(graph)
    clean.apply(graph)
    numbering.apply(graph)
    return graph


def trace(module: Any, example: dict[str, Any], output: str) -> ir.Model:
    """Return the graph of a module, traced with these inputs; rows and their length may change."""
    import torch

    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    program = torch.onnx.export(
        module,
        tuple(example.values()),
        dynamo=True,
        dynamic_shapes=((axes,) * len(example),),  # one variadic argument
        input_names=list(example),
        output_names=[output],
        opset_version=OPSET,
        verbose=False,
    )
    graph: ir.Model = program.model
    return graph


def _output_of(model: Any, names: tuple[str, ...], task: Task) -> Any:
    import torch

    class Output(torch.nn.Module):  # type: ignore[misc]
        """Take tensors by position, and return only the task's raw output."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: Any) -> Any:
            inputs = dict(zip(names, tensors, strict=True))
            return task.head.graph_output(self.model(**inputs), inputs, self.model.config)

    return Output()


@contextlib.contextmanager
def _eager_attention(model: Any) -> Iterator[None]:
    """Use attention made of plain operators; the passes only match these."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@contextlib.contextmanager
def _whole_gelu(model: Any) -> Iterator[None]:
    """Let ``gelu_python``, which spells out GELU in five operators, be one as ``gelu`` is."""
    from torch.nn import functional
    from transformers.activations import GELUActivation

    before = {
        activation: activation.act
        for activation in model.modules()
        if isinstance(activation, GELUActivation)
    }
    for activation in before:
        activation.act = functional.gelu
    try:
        yield
    finally:
        for activation, act in before.items():
            activation.act = act


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter: its warnings do not concern users, and it prints to stdout."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _name_axes(model: ir.Model) -> None:
    for value in model.graph.inputs:
        assert value.shape is not None
        value.shape = ir.Shape(["batch", "sequence", *value.shape[2:]])
    output = model.graph.outputs[0]
    if output.shape is not None:
        between = ["sequence"] * (len(output.shape) - 2)
        output.shape = ir.Shape(["batch", *between, output.shape[-1]])
    model.producer_name = "rarefy"
    model.ir_version = IR_VERSION


def _turn_weights(model: ir.Model) -> None:
    """Transpose weights here. The exporter does not if they are large and used several times."""
    for turning in list(model.graph):
        if turning.op_type != "Transpose":
            continue
        held = array(turning.inputs[0])
        if held is None:
            continue
        order = turning.attributes.get_ints("perm", None)
        name = f"{turning.inputs[0].name}.{order}"  # type: ignore[union-attr]
        turned = make_constant(model, name, np.ascontiguousarray(held.transpose(order)))
        replace(turning.outputs[0], turned)
        model.graph.remove(turning, safe=True)


def _name_weights(model: ir.Model) -> None:
    """Note the module path of each linear layer on its node, from the exporter's scopes."""
    products = [node for node in model.graph if node.op_type in ("MatMul", "Gemm")]
    for node in products:
        weight = node.inputs[1]
        if weight is None or not weight.is_initializer():
            continue
        # Layers with equal weights have one constant here; linear.apply gives each its own.
        modules = {_module(usage.node) if usage.node in products else "" for usage in weight.uses()}
        if "" not in modules:
            node.metadata_props["module"] = _module(node)


def _module(node: ir.Node) -> str:
    """Return the module whose operator this is, or "" for the classifier's own operators."""
    scopes = ast.literal_eval(node.metadata_props.get(SCOPES, "[]"))
    # Do not rely on the exporter's name of the weight: its layout may differ from PyTorch's.
    if len(scopes) >= 2:
        return str(scopes[-2]).removeprefix("model.")
    return ""


def _forget_traces(model: ir.Model) -> None:
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.functions.clear()
    for node in model.graph:
        module = node.metadata_props.get("module")
        node.metadata_props.clear()
        if module:
            node.metadata_props["module"] = module
    for value in (*model.graph.initializers.values(), *model.graph.inputs):
        value.metadata_props.clear()
