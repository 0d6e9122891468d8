"""Open a bundle's graph in ONNX Runtime; in a bundle, this file is ``predict_session.py``."""

import base64
import contextlib
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

PROBE = (
    "CAg6YgoYCgFhCgFiEgF5Ig1NYXRNdWxJbnRlZ2VyEgFnWhUKAWESEAoOCAISCgoDEgFtCgMSAWtaFQoBYhIQCg4IAxIKCgMS"
    "AWsKAxIBbmIVCgF5EhAKDggGEgoKAxIBbQoDEgFuQgQKABAR"
)
"""An ONNX model of one node, ``y = MatMulInteger(a, b)``, in base64."""


def open_session(folder: Path) -> Any:
    """Return a session of the graph in a bundle's folder.

    Raises RuntimeError if the graph cannot be loaded in this process or would be wrong: on this
    CPU, in this version of ONNX Runtime or on another provider.
    """
    signature = json.loads((folder / "signature.json").read_text(encoding="utf-8"))
    check_version(signature)
    check_cpu(signature)
    stored = json.loads((folder / "session_options.json").read_text(encoding="utf-8"))
    provider = stored["providers"][0]
    if provider != "CPUExecutionProvider":
        load_libraries(provider)
    # ONNX Runtime's own fallback prints to stdout and moves to the CPU, now or later.
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"),
        session_options(stored),
        providers=stored["providers"],
        provider_options=stored.get("provider_options"),
        enable_fallback=0,
    )
    if session.get_providers()[0] != provider:
        raise RuntimeError(f"{provider} is not active: the session would run on another provider")
    return session


def check_cpu(signature: dict[str, Any]) -> None:
    """Raise RuntimeError if the bundle is for CPUs with VNNI and this one has none."""
    if signature.get("isa") == "vnni" and not exact():
        raise RuntimeError(
            "this bundle was made for CPUs with VNNI (isa: vnni), and gives wrong predictions on "
            "this one; export it for a target without isa"
        )


def exact() -> bool:
    """Return whether this CPU computes int8 products exactly: x86 without VNNI does not."""
    probe = base64.b64decode(PROBE)
    session = onnxruntime.InferenceSession(probe, providers=["CPUExecutionProvider"])
    left = np.full((1, 64), 255, np.uint8)
    right = np.full((64, 16), 127, np.int8)
    sums = session.run(None, {"a": left, "b": right})[0]
    return bool((sums == 255 * 127 * 64).all())


def check_version(signature: dict[str, Any]) -> None:
    """Raise RuntimeError if this version of ONNX Runtime is too old for the bundle's graph."""
    least = signature["least_onnxruntime"]
    if numbers(onnxruntime.__version__) < numbers(least):
        raise RuntimeError(
            f"onnxruntime {onnxruntime.__version__} cannot load this bundle, or misreads it: it "
            f"needs {least} or later; run: pip install 'onnxruntime>={least}'"
        )


def numbers(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version."""
    return tuple(int(number) for number in version.split(".")[:2])


def session_options(stored: dict[str, Any]) -> Any:
    """Return ONNX Runtime's options for those of ``session_options.json``."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = stored["intra_op_num_threads"]
    options.inter_op_num_threads = 1
    level = "ORT_ENABLE_" + stored["graph_optimization_level"].upper()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.log_severity_level = 3
    return options


def load_libraries(provider: str) -> None:
    """Load a GPU provider's libraries from where pip has put them."""
    with contextlib.redirect_stdout(sys.stderr):  # it prints load failures
        onnxruntime.preload_dlls()
    if provider == "TensorrtExecutionProvider":
        with contextlib.suppress(ImportError):
            importlib.import_module("tensorrt_libs")
