"""The provider that a bundle was exported for, which its session_options.json names."""

from __future__ import annotations

from pathlib import Path

from pipeline.model.runtime import OPTIONS, PROVIDERS, check_available, is_on_cpu, read
from pipeline.terms.errors import ProviderError


def of(directory: Path) -> str:
    """Return a bundle's own provider, ``cpu`` if it names none."""
    named = read(directory, OPTIONS).get("providers", [])
    return next((ours for ours, name in PROVIDERS.items() if name in named[:1]), "cpu")


def chosen(directory: Path, provider: str | None) -> str:
    """Return the provider that is asked for, the bundle's own if none is.

    Raises ProviderError if it is the bundle's own and not available here. Another would answer,
    but more slowly and not with the answers that were measured, so it must be asked for.
    """
    if provider is not None:
        return provider
    bundle_provider = of(directory)
    try:
        check_available(bundle_provider)
    except ProviderError as error:
        raise ProviderError(
            f"{error}; the bundle was exported for it: ask for the provider cpu if ONNX Runtime is "
            "to answer on the CPU"
        ) from error
    return bundle_provider


def beside(directory: Path, provider: str) -> str:
    """Return the provider for a bundle that a candidate on ``provider`` is compared with.

    On a CPU that is ONNX Runtime's, or OpenVINO if the bundle was made for it: what the bundle is
    deployed with. On a GPU it is the candidate's.
    """
    if not is_on_cpu(provider):
        return provider
    if of(directory) == "openvino":
        return "openvino"
    return "cpu"
