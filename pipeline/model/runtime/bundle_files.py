"""The files of a bundle that say what it is, and the provider that it was exported for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from rarefy.pipeline.model.runtime.providers import PROVIDERS, check_available, is_on_cpu
from rarefy.pipeline.terms import bounds, json_text
from rarefy.pipeline.terms.errors import IntegrityError, ModelError, ProviderError

MODEL = "model.onnx"
SIGNATURE = "signature.json"
OPTIONS = "session_options.json"
CONFIG = "config.json"


class Tensor(BaseModel):
    """An input or an output of the graph."""

    name: str
    shape: list[int | str | None] = []


class Purpose(BaseModel):
    """The part of ``signature.json`` that says what the bundle is for."""

    task: str


class Signature(Purpose):
    """What every bundle's ``signature.json`` says; tasks add to it."""

    inputs: list[Tensor] = Field(min_length=1)
    outputs: list[Tensor] = Field(min_length=1)
    max_length: int = Field(ge=1, le=bounds.TOKENS)
    truncation_side: Literal["left", "right"] = "right"


class Options(BaseModel):
    """The part of ``session_options.json`` that a session is made of."""

    providers: list[str] = []
    graph_optimization_level: Literal["basic", "extended", "layout", "all"]
    intra_op_num_threads: int = Field(default=1, ge=0, le=4096)


class Config(BaseModel):
    """The part of a bundle's ``config.json`` that names its labels."""

    id2label: dict[str, str] = Field(max_length=bounds.LABELS)

    @model_validator(mode="after")
    def _is_complete(self) -> Config:
        expected = {str(index) for index in range(len(self.id2label))}
        if set(self.id2label) != expected:
            raise ValueError("id2label leaves out an output")
        return self


FORMS: dict[str, type[BaseModel]] = {SIGNATURE: Signature, OPTIONS: Options, CONFIG: Config}
"""What the files of a bundle must have."""


def read(directory: Path, name: str) -> dict[str, Any]:
    """Return a JSON file of a bundle.

    Raises ModelError if it is missing, IntegrityError if it is damaged.
    """
    path = path_of(directory, name)
    values = json_text.foreign(path, dict[str, Any], IntegrityError)
    if name in FORMS:
        json_text.foreign(path, FORMS[name], IntegrityError)
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
