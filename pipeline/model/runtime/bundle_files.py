"""The files of a bundle that say what it is, and the provider that it was exported for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rarefy.pipeline.model.runtime.providers import PROVIDERS, check_available, is_on_cpu
from rarefy.pipeline.terms.errors import IntegrityError, ModelError, ProviderError

MODEL = "model.onnx"
SIGNATURE = "signature.json"
OPTIONS = "session_options.json"


def read(directory: Path, name: str) -> dict[str, Any]:
    """Return a JSON file of a bundle.

    Raises ModelError if it is missing, IntegrityError if it is damaged.
    """
    try:
        value: dict[str, Any] = json.loads(path_of(directory, name).read_text(encoding="utf-8"))
    except ValueError as error:
        raise IntegrityError(f"{directory}/{name}: not valid JSON: {error}") from error
    return value


def path_of(directory: Path, name: str) -> Path:
    """Return the path of a bundle's file. Raises ModelError if it is missing."""
    path = directory / name
    if not path.exists():
        raise ModelError(f"{directory}: {name} is missing; is this a bundle?")
    return path


def provider_of(directory: Path) -> str:
    """Return a bundle's own provider, ``cpu`` if it names none."""
    named = read(directory, OPTIONS).get("providers", [])
    return next((ours for ours, name in PROVIDERS.items() if name in named[:1]), "cpu")


def chosen_provider(directory: Path, provider: str | None) -> str:
    """Return the provider that is asked for, the bundle's own if none is.

    Raises ProviderError if it is the bundle's own and not available here. Another would answer,
    but more slowly and not with the answers that were measured, so it must be asked for.
    """
    if provider is not None:
        return provider
    bundle_provider = provider_of(directory)
    try:
        check_available(bundle_provider)
    except ProviderError as error:
        raise ProviderError(
            f"{error}; the bundle was exported for it: ask for the provider cpu if ONNX Runtime is "
            "to answer on the CPU"
        ) from error
    return bundle_provider


def provider_beside(directory: Path, provider: str) -> str:
    """Return the provider for a bundle that a candidate on ``provider`` is compared with.

    On a CPU that is ONNX Runtime's, or OpenVINO if the bundle was made for it: what the bundle is
    deployed with. On a GPU it is the candidate's.
    """
    if not is_on_cpu(provider):
        return provider
    if provider_of(directory) == "openvino":
        return "openvino"
    return "cpu"
