"""What fingerprints are made of: the sha256 of files and values, the versions of libraries."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final

SHA256: Final = "^[0-9a-f]{64}$"
"""The pattern of a sha256 in hex."""
_BEGINNING = re.compile("[0-9a-f]{6,63}")


def canonical_json(value: Any) -> bytes:
    """Serialise to JSON, with equal bytes for equal values (floats in Python's shortest form)."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def value_sha256(value: Any) -> str:
    """Return the sha256 of the canonical JSON of a plain value, in hex."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_sha256(text: str) -> bool:
    """Return whether a text is a whole sha256 in hex."""
    return re.fullmatch(SHA256, text) is not None


def is_beginning(text: str) -> bool:
    """Return whether a text can stand for a sha256 as its first digits, of which it needs six."""
    return _BEGINNING.fullmatch(text) is not None


def version(name: str) -> str | None:
    """Return the version of an installed distribution; None if it is not installed."""
    return _version(name, (*sys.path,))


@cache
def _version(name: str, path: tuple[str, ...]) -> str | None:
    """Return a version from its file, read once for each search path: a plan asks 140 times."""
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
