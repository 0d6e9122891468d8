"""A bundle's graph compiled by OpenVINO, to be called as a session of ONNX Runtime is.

By default, OpenVINO computes floats in bf16 on CPUs that have it. It is left to choose, since that
is what its users get, and ``precision`` says what it chose.
"""

from __future__ import annotations

import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rarefy.pipeline.terms.errors import ModelError, ProviderError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME: Final = "OpenVINO"
"""What a bundle's session_options.json calls it."""
PRECISION: Final = "INFERENCE_PRECISION_HINT"
PRECISIONS: Final = {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}
"""OpenVINO's names of the types that it computes floats in, and ours."""


def installed() -> bool:
    """Return whether the package ``openvino`` is here, without importing it."""
    return find_spec("openvino") is not None


def check_installed() -> None:
    """Raise ProviderError, with the remedy, if OpenVINO is not installed."""
    if not installed():
        raise ProviderError(
            "provider 'openvino' is not active: OpenVINO is not installed; pip install openvino"
        )


def default_precision() -> str:
    """Return what OpenVINO computes floats in on this CPU, if it may choose."""
    import openvino

    return _precision(openvino.Core().get_property("CPU", PRECISION))


class Session:
    """A graph on the CPU, for one call at a time.

    Raises ModelError if the graph has operators that OpenVINO does not know, ProviderError if
    OpenVINO is not installed.
    """

    def __init__(self, path: Path, threads: int) -> None:
        check_installed()
        import openvino

        check_operators(path)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads),
            # The threads stay on the cores that the process was given.
            "ENABLE_CPU_PINNING": "NO",
        }
        try:
            compiled = openvino.Core().compile_model(path, "CPU", settings)
        except RuntimeError as error:
            raise ModelError(f"{path}: OpenVINO cannot load this file: {_cause(error)}") from error
        self.precision: str = _precision(compiled.get_property(PRECISION))
        """What floats are computed in: ``fp32``, ``bf16`` or ``fp16``."""
        self._request = compiled.create_infer_request()
        self._alone = threading.Lock()

    def run(self, outputs: list[str], feed: dict[str, NDArray[np.int64]]) -> list[Any]:
        """Return the outputs of a call by name. Threads take turns: a request holds one input.

        Raises ProviderError if OpenVINO fails.
        """
        with self._alone:
            try:
                results = self._request.infer(feed, share_inputs=True)
            except RuntimeError as error:
                raise ProviderError(f"provider 'openvino' failed: {_cause(error)}") from error
            return [results[name] for name in outputs]


def check_operators(path: Path) -> None:
    """Raise ModelError, with the remedy, if a graph has operators of ONNX Runtime's own."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    operators = sorted({node.op_type for node in graph.node if node.domain == "com.microsoft"})
    if operators:
        raise ModelError(
            f"{path}: OpenVINO has no {', '.join(operators)} (com.microsoft), which only ONNX "
            "Runtime has; export for a target with provider: openvino, or write export: "
            "{products: qdq}"
        )


def _precision(kind: Any) -> str:
    name: str = kind.get_type_name()
    return PRECISIONS.get(name, name)


def _cause(error: Exception) -> str:
    """Return the line of OpenVINO's message that says what is wrong; the first say where."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines:
        return lines[-1]
    return type(error).__name__
