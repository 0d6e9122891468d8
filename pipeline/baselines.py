"""What a budget's tag means: an artifact of this store, or of another one."""

from __future__ import annotations

import json

from pipeline.artifact import Artifact, Kind
from pipeline.errors import IntegrityError, ModelError, RecipeError
from pipeline.store import Store

COMPARABLE = (Kind.BUNDLE, Kind.CHECKPOINT)


def open_tag(store: Store, name: str) -> Artifact:
    """Return what a tag points at. Raises RecipeError where there is none, or of another kind."""
    if name not in store.tags():
        known = ", ".join(store.tags()) or "none"
        raise RecipeError(f"no tag in {store.root} (tags: {known})")
    artifact = store.open(name)
    if artifact.kind not in COMPARABLE:
        raise RecipeError(
            f"the tag points at {artifact.kind} {artifact.short}, which answers nothing"
        )
    return artifact


def check(name: str, artifact: Artifact, labels: list[str]) -> None:
    """Raise ModelError where a baseline does not answer with these labels, in this order."""
    try:
        named = json.loads((artifact.directory / "config.json").read_text())["id2label"]
        own = [named[key] for key in sorted(named, key=int)]
    except (OSError, ValueError, KeyError):
        raise IntegrityError(
            f"{name}: the config.json of {artifact.short} names no labels"
        ) from None
    if own != labels:
        raise ModelError(
            f"{name}: answers with the labels {', '.join(own)}; the recipe's data has "
            f"{', '.join(labels)}: they cannot be compared"
        )
