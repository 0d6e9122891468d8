"""A recipe's model that is in the store, such as the base that the adapters of several tasks share.

``model: tag:NAME`` names it. Its import keeps the quantization plan of its body, so that what is
adapted is the base as it is shipped, to the last byte.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.sources import references
from rarefy.pipeline.stage import located_model
from rarefy.pipeline.stage.located_model import Located
from rarefy.pipeline.store.artifact import Artifact, Kind, Source
from rarefy.pipeline.store.store import Store
from rarefy.pipeline.terms.errors import ModelError, RarefyError

BASES: Final = (Kind.ENCODER, Kind.CHECKPOINT)
"""The kinds of artifacts that can be the model of a recipe."""


def locate(store: Store, reference: str) -> Located:
    """Return the model that a tag, or a digest, names now.

    Raises ModelError if there is none, or it cannot be a recipe's model.
    """
    try:
        artifact = store.open(reference.removeprefix(references.TAG))
        _check(artifact)
        store.check(artifact.digest)
        located = located_model.locate(str(artifact.directory), store.root, allow_pickle=False)
    except RarefyError as error:
        error.args = (f"model: {reference}: {error}",)
        raise
    source = Source(reference=reference, revision=artifact.digest)
    plan = artifact.directory / quantization.FILE
    files = located.files
    if plan.is_file():
        files = (*files, plan)
    return replace(located, source=source, files=files)


def _check(artifact: Artifact) -> None:
    """Raise ModelError unless an artifact is a model of PyTorch with all of its weights."""
    if artifact.kind not in BASES:
        remedy = "tag the output of 'finetune', 'distill' or 'quantize'"
        if artifact.kind is Kind.ADAPTER:
            remedy = "tag the model that it adapts, or the output of 'merge'"
        raise ModelError(f"{artifact.kind} {artifact.short} is not the model of a recipe; {remedy}")
    plan = quantization.read(artifact.directory)
    if plan is not None and plan.int4_modules:
        raise ModelError(
            "it has weights in int4, which no adapter can read; tag one of 'quantize: {weights: "
            "int8}'"
        )
