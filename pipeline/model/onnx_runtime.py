"""ONNX Runtime as it is installed here: whether it is there at all, and what it raises."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from pipeline.terms.errors import ProviderError

REMEDY: Final = "pip install onnxruntime, or 'onnxruntime-gpu[cuda,cudnn]' for a GPU"


def check_installed() -> None:
    """Raise ProviderError, with the remedy, if no build of ONNX Runtime is installed."""
    if find_spec("onnxruntime") is None:
        raise ProviderError(f"ONNX Runtime is not installed; {REMEDY}")


def provider_failure() -> type[Exception]:
    """Return the exception that ONNX Runtime raises if a provider fails during a call."""
    from onnxruntime.capi.onnxruntime_pybind11_state import EPFail

    failure: type[Exception] = EPFail
    return failure


def refusals() -> tuple[type[Exception], ...]:
    """Return the exceptions that ONNX Runtime raises if it cannot create a session."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = [
        *("EPFail", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel"),
        *("NotImplemented", "RuntimeException"),
    ]
    return (RuntimeError, ValueError, *(getattr(state, name) for name in names))
