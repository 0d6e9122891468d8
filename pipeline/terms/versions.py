"""Which versions of the libraries are installed, read from their metadata without an import."""

from __future__ import annotations

import importlib.metadata


def distribution_version(name: str) -> str | None:
    """Return a distribution's version, None where it is not there.

    ONNX Runtime is there under two names: ``onnxruntime`` also finds ``onnxruntime-gpu``.
    """
    for known in (name, f"{name}-gpu"):
        try:
            return importlib.metadata.version(known)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
