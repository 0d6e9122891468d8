"""Half precision for GPUs, with ONNX Runtime's own converter.

Places stay in full precision: fp16 has no odd number above 2048, so neighbouring tokens would have
one place, and the angles of rotary embeddings are wrong long before. transformers computes them
from ``position_ids.float()``, and DeBERTa's buckets from distances, whatever the model's precision.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporters.passes.graph import array, behind, constant, node, read_inputs

FLOAT = ir.DataType.FLOAT


def apply(model: ir.Model) -> ir.Model:
    """Return the graph in fp16; inputs and logits keep their types, and what counts tokens fp32.

    The mask's lowest number is replaced by the lowest that fp16 can represent. Otherwise it would
    become -inf, and a padded row NaN.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    lowest = model.graph.initializers.get("mask.lowest")
    if lowest is not None:
        smaller = constant(model, "mask.lowest.half", np.array(-65504, dtype=np.float32))
        ir.convenience.replace_all_uses_with(lowest, smaller)
        del model.graph.initializers["mask.lowest"]
    counting = _counting(model)
    _set_apart(model, counting)
    # The graph already has its shapes; inferring them again fails on com.microsoft's operators.
    converted = convert_float_to_float16(
        ir.to_proto(model),
        keep_io_types=True,
        disable_shape_infer=True,
        node_block_list=[step.name for step in counting],
    )
    half: ir.Model = ir.from_proto(converted)
    return half


def _counting(model: ir.Model) -> list[ir.Node]:
    """Return the nodes that compute with places: with floats made of integers.

    These depend on no input's numbers but only on sizes. Masks, which do, are not among them, and
    neither are tables that are read at a place.
    """
    places, found = set[ir.Value | None](), set[ir.Node | None]()
    for step in filter(_computes, model.graph):
        read = step.inputs[0] if step.op_type == "Cast" else None
        first = read is not None and read.dtype is not None and read.dtype.is_integer()
        if (first or places.intersection(step.inputs)) and not read_inputs(step.outputs[0]):
            places.update(value for value in step.outputs if value.dtype == FLOAT)
            found.update(value.producer() for value in behind(step.outputs[0], _computes))
    return [step for step in model.graph if step in found and _computes(step)]


def _computes(step: ir.Node) -> bool:
    """Return whether a node reads numbers, not only a size."""
    return step.op_type != "Shape"


def _set_apart(model: ir.Model, counting: list[ir.Node]) -> None:
    """Give these nodes names and constants of their own, and others a Cast of what they read.

    The converter turns that Cast into one to fp16. It adds others between any two nodes, to fp16
    and back, unless a value has no type; the runtime infers it.
    """
    own = set(counting)
    for number, step in enumerate(counting):
        step.name = f"places_{step.op_type}_{number}"
        for at, value in enumerate(step.inputs):
            held = array(value)
            if value is None or held is None or held.dtype != np.float32:
                continue
            if any(usage.node not in own for usage in value.uses()):
                value = constant(model, f"{value.name}.places", held)
                step.replace_input_with(at, value)
            value.type = value.shape = None
        for value in step.outputs:
            if value.dtype == FLOAT:
                _hand_on(model, value, own)
                value.type = value.shape = None


def _hand_on(model: ir.Model, value: ir.Value, own: set[ir.Node]) -> None:
    """Make the readers of a value that are not among ``own`` read a Cast of it."""
    others = [usage for usage in value.uses() if usage.node not in own]
    source = value.producer()
    if not others or source is None:
        return
    handed = node("Cast", [value], like=value, to=FLOAT)
    handed.outputs[0].shape = value.shape
    model.graph.insert_after(source, handed)
    for usage in others:
        usage.node.replace_input_with(usage.idx, handed.outputs[0])
