"""Trace a model once for all that are built alike: PyTorch takes seconds for the smallest one.

A graph depends on what a model is built of, not on its weights. A second model of the same modules,
sizes, and config gets a copy of the first one's graph, with its own weights in it. A test of the
tracing itself asks for ``trace_always``.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import inspect
import os
import pickle
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np
import onnx as onnx_format
import onnx_ir as ir
import pytest

from rarefy.exporters import trace as onnx

Trace = Callable[[Any, dict[str, Any], str], ir.Model]
"""``rarefy.exporters.trace.trace``: from a module, its inputs by name, and the name of its
output."""
PLAIN = (int, float, bool, str, tuple, list, dict, set, type(None))
NAMES = {"_name_or_path", "name_or_path", "transformers_version", "id2label", "label2id"}
"""What models and configs say that no graph depends on."""
TASK_NAMES = {"labels", "text_columns", "max_length"}
"""What tasks say that none depends on."""


class Traced(NamedTuple):
    graph: bytes
    """A ModelProto, in which the weights of the model are empty."""
    weights: dict[str, tuple[str, bool]]
    """Initializer -> the tensor of the model that it holds, and whether it is transposed."""
    named: tuple[int, int]
    """How many nodes and values have been given names, which new ones are numbered from."""


def once(trace: Trace, folder: Path) -> Trace:
    """Return a function that traces as ``trace`` does, but only the first model of a structure.

    ``folder``: where graphs are kept, also for other processes.
    """

    @functools.wraps(trace)
    def traced(module: Any, example: dict[str, Any], output: str) -> ir.Model:
        key = _structure(module, example, output)
        if key is None:
            return trace(module, example, output)
        path = folder / key
        if path.exists():
            return _with_weights(Traced(*pickle.loads(path.read_bytes())), module)
        collects = gc.isenabled()
        gc.disable()  # it takes a fifth of the time
        try:
            graph = trace(module, example, output)
        finally:
            if collects:
                gc.enable()
        if (found := _kept(graph, module)) is not None:
            part = path.with_suffix(f".{os.getpid()}")
            part.write_bytes(pickle.dumps(tuple(found)))
            part.replace(path)
        return graph

    return traced


@pytest.fixture(scope="session", autouse=True)
def trace_once(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Trace once in all tests of a run, those of its other workers as well."""
    base = tmp_path_factory.getbasetemp()
    # Not by the environment, which pytest in a test inherits: its folder's parent outlives the run.
    folder = (base.parent if hasattr(request.config, "workerinput") else base) / "traced"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx, "trace", once(onnx.trace, folder))
        yield


@pytest.fixture
def trace_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace every model of this test."""
    monkeypatch.setattr(onnx, "trace", inspect.unwrap(onnx.trace))


def _structure(module: Any, example: dict[str, Any], output: str) -> str | None:
    """Return a digest of all that a graph depends on but the weights; None if not all is known."""
    import torch

    inputs = [(name, tensor.tolist()) for name, tensor in example.items()]
    parts: list[Any] = [inputs, output]
    forward = type(module).forward
    for cell in getattr(forward, "__closure__", None) or ():
        held = cell.cell_contents
        plain = isinstance(held, PLAIN)
        parts.append(held if plain else (type(held), _plain_of(held, TASK_NAMES)))
    for name, part in module.named_modules(remove_duplicate=False):
        own = vars(part)
        functions = {at: held for at, held in own.items() if isinstance(held, FunctionType)}
        hooked = any(held for at, held in own.items() if at.endswith("_hooks"))
        if hooked or "forward" in own or any(f.__closure__ for f in functions.values()):
            return None
        parts.extend((at, held.__module__, held.__qualname__) for at, held in functions.items())
        parts.append((name, type(part), _plain_of(part)))
        parts.extend(_digest(value) for value in own.values() if isinstance(value, torch.Tensor))
        if hasattr(part, "config"):
            said = part.config.to_dict().items()
            parts.append(sorted((key, repr(value)) for key, value in said if key not in NAMES))
    first: dict[int, str] = {}
    for name, tensor in _weights(module).items():
        parts.append((name, first.setdefault(id(tensor), name), tensor.dtype, tensor.shape))
        if not tensor.is_floating_point():
            parts.append(_digest(tensor))
    for name, tensor in module.named_buffers(remove_duplicate=False):
        parts.append((name, tensor.dtype, tensor.shape, _digest(tensor)))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _plain_of(thing: Any, but: Collection[str] = NAMES) -> list[tuple[str, str]]:
    """Return an object's attributes that are plain values, without PyTorch's own collections."""
    values = ((at, value) for at, value in vars(thing).items() if at not in but)
    collections = (list, dict, set)
    return sorted(
        (at, repr(value))
        for at, value in values
        if isinstance(value, PLAIN) and not (at.startswith("_") and isinstance(value, collections))
    )


def _digest(tensor: Any) -> str:
    return hashlib.sha256(tensor.detach().cpu().numpy().tobytes()).hexdigest()


def _weights(module: Any) -> dict[str, Any]:
    return dict(module.named_parameters(remove_duplicate=False))


def _kept(graph: ir.Model, module: Any) -> Traced | None:
    """Return a copy of a graph and whose weights it holds; None if some might be computed."""
    import torch

    tensors = _weights(module)
    alone = {id(tensor): tensor for tensor in tensors.values() if tensor.is_floating_point()}
    if len({(tensor.shape, _digest(tensor)) for tensor in alone.values()}) < len(alone):
        return None  # of weights that are equal, as those of a fresh norm, the graph holds but one
    if any(tensor.numel() > 1 and tensor.min() == tensor.max() for tensor in alone.values()):
        return None  # and none that are all 0 or 1, with which nothing is to be computed
    scalars = [t for t in tensors.values() if t.is_floating_point() and t.numel() == 1]
    weights = {}
    for name, value in graph.graph.initializers.items():
        assert value.const_value is not None
        if name in tensors:
            weights[name] = name, False
            continue
        array = torch.from_numpy(value.const_value.numpy().copy())
        if not array.is_floating_point() or (array.numel() == 1 and not scalars):
            continue  # a constant of the graph
        turned = {
            id(tensor): at
            for at, tensor in tensors.items()
            if tensor.dim() == 2
            and array.shape == tensor.T.shape
            and array.equal(tensor.detach().T)
        }
        held = [each for each in module.buffers() if each.dtype == array.dtype]
        if not turned and any(map(array.equal, held)):
            continue
        if len(turned) != 1:
            return None
        weights[name] = turned.popitem()[1], True
    names = graph.graph._name_authority
    return Traced(_without(graph, weights), weights, (names._node_counter, names._value_counter))


def _without(graph: ir.Model, weights: Collection[str]) -> bytes:
    copy = graph.clone()
    for name in weights:
        value = copy.graph.initializers[name]
        assert value.const_value is not None
        value.const_value = ir.tensor(np.zeros(0, value.const_value.dtype.numpy()), name=name)
    proto: bytes = ir.to_proto(copy).SerializeToString()
    return proto


def _with_weights(traced: Traced, module: Any) -> ir.Model:
    graph = ir.from_proto(onnx_format.ModelProto.FromString(traced.graph))
    tensors = _weights(module)
    names = graph.graph._name_authority
    names._node_counter, names._value_counter = traced.named
    for name, (at, transposed) in traced.weights.items():
        tensor = tensors[at].detach()
        held = ir.tensor(tensor.T.contiguous() if transposed else tensor, name=name)
        value = graph.graph.initializers[name]
        value.const_value, value.shape = held, held.shape
    return graph
