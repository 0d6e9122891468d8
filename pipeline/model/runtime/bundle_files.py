"""The files of a bundle that say what it is, and the provider that it was exported for."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, prod
from pathlib import Path
from typing import Any

from rarefy.pipeline.model.runtime.providers import PROVIDERS, check_available, is_on_cpu
from rarefy.pipeline.terms import bounds, json_text
from rarefy.pipeline.terms.errors import IntegrityError, ModelError, ProviderError

MODEL = "model.onnx"
SIGNATURE = "signature.json"
OPTIONS = "session_options.json"
CONFIG = "config.json"
LEVELS = ("basic", "extended", "layout", "all")
"""ONNX Runtime's levels of optimization."""
THREADS = 4096
"""Threads that a bundle may ask for at most."""


def check_signature(values: dict[str, Any]) -> None:
    """Raise ValueError if ``signature.json`` does not say what every bundle's does."""
    check_task(values)
    for key in ("inputs", "outputs"):
        tensors = values.get(key)
        named = isinstance(tensors, list) and all(map(_has_name, tensors))
        _require(named and bool(tensors), key, "must name the graph's tensors")
    length = values.get("max_length")
    fits = type(length) is int and 1 <= length <= bounds.TOKENS
    _require(fits, "max_length", f"must be from 1 to {bounds.TOKENS:,}")
    side = values.get("truncation_side", "right")
    _require(side in ("left", "right"), "truncation_side", "must be left or right")


def check_task(values: dict[str, Any]) -> str:
    """Return the task of ``signature.json``. Raises ValueError if it names none."""
    task = values.get("task")
    _require(isinstance(task, str), "task", "must be the name of a task")
    return str(task)


def check_options(values: dict[str, Any]) -> None:
    """Raise ValueError if no session can be made of ``session_options.json``."""
    providers = values.get("providers", [])
    listed = isinstance(providers, list) and all(isinstance(name, str) for name in providers)
    _require(listed, "providers", "must be a list of names")
    level = values.get("graph_optimization_level")
    _require(level in LEVELS, "graph_optimization_level", f"must be one of {', '.join(LEVELS)}")
    threads = values.get("intra_op_num_threads", 1)
    few = type(threads) is int and 0 <= threads <= THREADS
    _require(few, "intra_op_num_threads", f"must be from 0 to {THREADS:,}")


def check_config(values: dict[str, Any]) -> None:
    """Raise ValueError if ``config.json`` does not name the label of each output."""
    labels = values.get("id2label")
    if not isinstance(labels, dict) or len(labels) > bounds.LABELS:
        raise ValueError("'id2label' must name the labels")
    named = all(isinstance(label, str) for label in labels.values())
    _require(named, "id2label", "must name the labels")
    outputs = range(len(labels))
    whole = set(labels) == set(map(str, outputs))
    _require(whole, "id2label", "leaves out an output")


def _has_name(tensor: Any) -> bool:
    return isinstance(tensor, dict) and isinstance(tensor.get("name"), str)


def _require(fulfilled: bool, key: str, rule: str) -> None:
    if not fulfilled:
        raise ValueError(f"{key!r} {rule}")


# By hand: a server that loads a bundle should not wait for pydantic.
CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    SIGNATURE: check_signature,
    OPTIONS: check_options,
    CONFIG: check_config,
}
"""What the files of a bundle must have."""


def read(directory: Path, name: str) -> dict[str, Any]:
    """Return a JSON file of a bundle.

    Raises ModelError if it is missing, IntegrityError if it is damaged.
    """
    path = path_of(directory, name)
    values = json_text.foreign(path, dict[str, Any], IntegrityError)
    if name in CHECKS:
        try:
            CHECKS[name](values)
        except ValueError as error:
            raise IntegrityError(f"{path}: {error}") from None
    return values


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
            f"{error}; the bundle was exported for it: to run it on the CPU all the same, choose "
            "the provider cpu"
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


def check_tokenizer(path: Path) -> None:
    """Raise ModelError if a tokenizer.json is none, or makes a long text of each character."""
    values = json_text.foreign(path, dict[str, Any])
    if _growth(values.get("normalizer")) > bounds.GROWTH:
        raise ModelError(
            f"{path}: its normalizer makes more than {bounds.GROWTH:,} characters of one"
        )


def _growth(normalizer: Any) -> int:
    """Return how many characters a normalizer makes at most of one by what it puts in."""
    if not isinstance(normalizer, dict):
        return 1
    inner = normalizer.get("normalizers")
    if isinstance(inner, list):
        return prod(_growth(part) for part in inner)
    content = normalizer.get("content")
    if normalizer.get("type") != "Replace" or not isinstance(content, str):
        return 1
    replaced = 1
    pattern = normalizer.get("pattern")
    if isinstance(pattern, dict):
        text = pattern.get("String")
        if isinstance(text, str):
            replaced = max(1, len(text))
    growth = ceil(len(content) / replaced)
    return max(1, growth)
