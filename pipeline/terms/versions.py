"""Versions of installed libraries, read from their metadata without importing them."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable


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


def versions(names: Iterable[str]) -> dict[str, str | None]:
    """Return the ``distribution_version`` of each name."""
    return {name: distribution_version(name) for name in names}
