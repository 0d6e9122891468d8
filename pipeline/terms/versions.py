"""Versions of installed libraries, read from their metadata without importing them."""

from __future__ import annotations

import importlib.metadata


def version(name: str) -> str | None:
    """Return the version of an installed distribution. Returns None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def distribution_version(name: str) -> str | None:
    """Return the version of a distribution or, if it is missing, of its GPU build.

    For example, ``onnxruntime`` also finds ``onnxruntime-gpu``. Returns None if neither is
    installed.
    """
    return version(name) or version(f"{name}-gpu")
