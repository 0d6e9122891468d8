"""Half precision for GPUs, with ONNX Runtime's own converter.

Places stay in full precision: fp16 has no odd number above 2048, so neighbouring tokens would have
one place, and the angles of rotary embeddings are wrong long before. transformers computes them
from ``position_ids.float()``, and DeBERTa's buckets from distances, whatever the model's precision.

So do nodes whose numbers come near fp16's largest, such as squares in a norm, on rows that are
tried beforehand in fp32. No check of the fp16 graph on a CPU would find them: ONNX Runtime computes
most nodes there in fp32, and drops the casts between them. The rule is that of ModelOpt's AutoCast.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from rarefy.exporters import parity
from rarefy.exporters.passes.graph import array, behind, constant, node, read_inputs

FLOAT = ir.DataType.FLOAT
LARGEST = 65504 / 4
"""A quarter of fp16's largest number: rows that were not tried may have larger ones."""
LOWEST = -LARGEST / 2
"""What masks add instead of fp32's lowest number. Two of them and a score stay in fp16's range,
where -inf would make a padded row NaN, and the exponential is 0 as well."""


def apply(model: ir.Model, feeds: Sequence[parity.Feed]) -> tuple[ir.Model, int]:
    """Return the graph in fp16, and how many of its nodes stay in fp32.

    Inputs and logits keep their types. ``feeds``: the rows that are tried, as inputs of the graph.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    _weaken_masks(model)
    in_fp32 = _counting(model) | large_steps(model, feeds)
    apart = [step for step in model.graph if step in in_fp32]
    kinds = [(value.type, value.shape) for value in model.graph.outputs]
    _set_apart(model, apart)
    # The graph already has its shapes; inferring them again fails on com.microsoft's operators.
    converted = convert_float_to_float16(
        ir.to_proto(model),
        keep_io_types=True,
        disable_shape_infer=True,
        node_block_list=[step.name for step in apart],
    )
    # Before 1.32 the converter adds the same Cast again for each node that reads it.
    once = {tuple(step.output): step for step in converted.graph.node}
    del converted.graph.node[:]
    converted.graph.node.extend(once.values())
    half: ir.Model = ir.from_proto(converted)
    half.graph.sort()  # the converter puts its casts last
    for value, (kind, shape) in zip(half.graph.outputs, kinds, strict=True):
        value.type = kind
        value.shape = shape
    return half, len(apart)


def _weaken_masks(model: ir.Model) -> None:
    """Replace fp32's lowest number, which transformers' masks have, by one in fp16's range."""
    for value, held in list(_constants(model)):
        if held.min() == np.finfo(np.float32).min:
            raised = np.maximum(held, np.float32(LOWEST))
            weaker = constant(model, f"{value.name}.half", raised)
            ir.convenience.replace_all_uses_with(value, weaker)
            del model.graph.initializers[str(value.name)]


def large_steps(model: ir.Model, feeds: Sequence[parity.Feed]) -> set[ir.Node]:
    """Return the nodes that read or compute numbers beyond ``LARGEST`` for one of the feeds."""
    tried = model.clone()
    computed = []
    for step in tried.graph:
        computed += [value for value in step.outputs if value.dtype == FLOAT]
    sizes = [node("Abs", [value], like=value) for value in computed]
    most = []
    for size, value in zip(sizes, computed, strict=True):
        most.append(node("ReduceMax", list(size.outputs), like=value, keepdims=0))
    # The runtime goes to the last output first. If that was the last of the values, all would have
    # to be held until then.
    tried.graph.extend([*sizes, *reversed(most)])
    tried.graph.outputs[:] = [step.outputs[0] for step in most]
    session = parity.session(tried)
    maxima = np.max([session.run(None, feed) for feed in feeds], axis=0)
    largest = {value.name: size for value, size in zip(computed, maxima, strict=True)}
    for value, numbers in _constants(model):
        largest[value.name] = max(numbers.max(), -numbers.min())
    # What is infinite in fp32, as some masks are, may be so in fp16.
    large = {name for name, size in largest.items() if LARGEST < size < np.inf}
    steps = set()
    for step in model.graph:
        values = (*step.inputs, *step.outputs)
        if any(value is not None and value.name in large for value in values):
            steps.add(step)
    return steps


def _constants(model: ir.Model) -> Iterator[tuple[ir.Value, NDArray[np.float32]]]:
    """Yield the constants in fp32 that have numbers, and these."""
    for value in model.graph.initializers.values():
        held = array(value)
        if held is not None and held.dtype == np.float32 and held.size:
            yield value, held


def _counting(model: ir.Model) -> set[ir.Node]:
    """Return the nodes that compute with places: with floats made of integers.

    These depend on no input's numbers but only on sizes. Masks, which do, are not among them, and
    neither are tables that are read at a place.
    """
    places = set[ir.Value | None]()
    sources = set[ir.Node | None]()
    for step in filter(_computes, model.graph):
        if not _casts_integers(step) and not places.intersection(step.inputs):
            continue
        output = step.outputs[0]
        if not read_inputs(output):
            places.update(value for value in step.outputs if value.dtype == FLOAT)
            sources.update(value.producer() for value in behind(output, _computes))
    return {step for step in sources if step is not None and _computes(step)}


def _casts_integers(step: ir.Node) -> bool:
    if step.op_type != "Cast" or step.inputs[0] is None:
        return False
    kind = step.inputs[0].dtype
    return kind is not None and kind.is_integer()


def _computes(step: ir.Node) -> bool:
    """Return whether a node reads numbers, not only a size."""
    return step.op_type != "Shape"


def _set_apart(model: ir.Model, apart: list[ir.Node]) -> None:
    """Give these nodes names and constants of their own, and others a Cast of what they read.

    The converter turns that Cast into one to fp16. It adds others between any two nodes, to fp16
    and back, unless a value has no type; the runtime infers it.
    """
    in_fp32 = set(apart)
    for number, step in enumerate(apart):
        step.name = f"fp32_{step.op_type}_{number}"
        for at, value in enumerate(step.inputs):
            held = array(value)
            if value is None or held is None or held.dtype != np.float32:
                continue
            if any(usage.node not in in_fp32 for usage in value.uses()):
                value = constant(model, f"{value.name}.fp32", held)
                step.replace_input_with(at, value)
            value.type = value.shape = None
        for value in step.outputs:
            if value.dtype == FLOAT:
                _hand_on(model, value, in_fp32)
                value.type = value.shape = None


def _hand_on(model: ir.Model, value: ir.Value, in_fp32: set[ir.Node]) -> None:
    """Make the readers of a value that are not among ``in_fp32`` read a Cast of it."""
    others = [usage for usage in value.uses() if usage.node not in in_fp32]
    source = value.producer()
    if not others or source is None:
        return
    handed = node("Cast", [value], like=value, to=FLOAT)
    handed.outputs[0].shape = value.shape
    model.graph.insert_after(source, handed)
    for usage in others:
        usage.node.replace_input_with(usage.idx, handed.outputs[0])
