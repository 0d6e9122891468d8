"""ONNX Runtime as it is installed here: whether it is there, where it runs, what it raises."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections import Counter
from collections.abc import Collection
from functools import cache
from importlib.util import find_spec
from typing import Any, Final

from packaging.version import Version

from rarefy.pipeline.terms.errors import ProviderError

TENSORRT: Final = "tensorrt>=10.13.2,<11"
"""ONNX Runtime 1.31 loads TensorRT 10; from this version on, its packages are for CUDA 13."""
_ENGINES: Final = "TensorrtExecutionProvider"
LEAST: Final = {20: "1.18", 23: "1.23"}
"""An opset of ONNX -> the first version that loads our graphs of it."""
LEAST_PACKED: Final = "1.28"
"""The first version that reads embeddings in 4 bits; earlier ones misread them silently."""
REMEDY: Final = "pip install onnxruntime, or 'onnxruntime-gpu[cuda,cudnn]' for a GPU"


def check_installed() -> None:
    """Raise ProviderError, with the remedy, if no build of ONNX Runtime is installed."""
    if find_spec("onnxruntime") is None:
        raise ProviderError(f"ONNX Runtime is not installed; {REMEDY}")


def least_version(opset: int, operators: Collection[str]) -> str:
    """Return the first version of ONNX Runtime that answers correctly by a graph.

    ``opset``: of ONNX, which the graph imports; ``operators``: the types of its nodes.
    """
    if "GatherBlockQuantized" in operators:
        return LEAST_PACKED
    enough = [known for known in LEAST if known >= opset]
    return LEAST[min(enough, default=max(LEAST))]


def is_earlier(version: str, least: str) -> bool:
    """Return whether a version of ONNX Runtime, such as ``1.22``, is before another."""
    return Version(version) < Version(least)


def load_libraries(provider: str) -> None:
    """Load what a GPU's provider needs from Python packages, where the system's loader is blind."""
    import onnxruntime

    with contextlib.redirect_stdout(sys.stderr):  # it prints load failures
        onnxruntime.preload_dlls()  # of CUDA and cuDNN
    if provider == _ENGINES:
        with contextlib.suppress(ImportError):
            importlib.import_module("tensorrt_libs")  # loads them


@cache
def inactive(provider: str) -> str | None:
    """Return why a provider does not start here, None if it does.

    ONNX Runtime lists what it was built with, on machines without the device and libraries too.
    """
    import onnxruntime

    load_libraries(provider)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    settings: dict[str, Any] = {}
    if provider == _ENGINES:
        settings = {"trt_op_types_to_exclude": "Identity"}  # or it would build an engine
    try:
        session = onnxruntime.InferenceSession(
            _probe(), options, providers=[(provider, settings)], enable_fallback=0
        )
    except refusals() as error:
        return reason(error)
    active = session.get_providers()[0]
    if active == provider:
        return None
    return f"the session runs on {active}"


def _probe() -> bytes:
    """Return a graph that gives back what it is given."""
    from onnx import TensorProto, helper

    given, target = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "probe", [given], [target]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def reason(error: Exception) -> str:
    """Return an error of ONNX Runtime in one line."""
    text = str(error).strip() or type(error).__name__
    if "install TensorRT" in text:
        return f"the libraries of TensorRT are missing: pip install '{TENSORRT}'"
    return text.splitlines()[0]


def provider_failures(provider: str) -> tuple[type[Exception], ...]:
    """Return the exceptions that ONNX Runtime raises if a provider fails during a call.

    CUDA has none of its own: those that it raises for want of memory would be faults of the graph
    on a CPU.
    """
    from onnxruntime.capi.onnxruntime_pybind11_state import EPFail, Fail, RuntimeException

    if provider == "cpu":
        return (EPFail,)
    return (EPFail, Fail, RuntimeException)


def refusals() -> tuple[type[Exception], ...]:
    """Return the exceptions that ONNX Runtime raises if it cannot create a session."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = [
        *("EPFail", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel"),
        *("NotImplemented", "RuntimeException"),
    ]
    return (RuntimeError, ValueError, *(getattr(state, name) for name in names))


def check_placement(session: Any, provider: str, name: str) -> None:
    """Raise ProviderError if a provider is registered but most of the work runs elsewhere.

    The work is counted in matrix products: a GPU provider supports few of those in an int8 graph
    made for CPUs. ``name``: ONNX Runtime's for the provider.
    """
    nodes: Counter[str] = Counter()
    products: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        operators = [node.op_type for node in part.get_nodes()]
        matmuls = [operator for operator in operators if _is_matmul(operator)]
        nodes[part.ep_name] += len(operators)
        products[part.ep_name] += len(matmuls)
    work, unit = nodes, "nodes"
    if products.total():
        work, unit = products, "matrix products"
    share = work[name]
    if share and 2 * share >= work.total():
        return
    places = [f"{count} on {other}" for other, count in work.items() if count]
    raise ProviderError(
        f"provider {provider!r} is active, but most {unit} run elsewhere: {', '.join(places)}; "
        "export the model for this provider"
    )


def _is_matmul(operator: str) -> bool:
    return operator == "Gemm" or "MatMul" in operator or "Attention" in operator
