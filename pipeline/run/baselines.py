"""What a budget's tag means: an artifact of this store, or of another one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.measure.measurements import CANDIDATE
from pipeline.recipe.recipe import LoadedRecipe
from pipeline.store.artifact import Artifact, Kind
from pipeline.store.store import Store
from pipeline.store.tags import NoTagError
from pipeline.terms.budget import Budget
from pipeline.terms.errors import ModelError, RecipeError
from pipeline.terms.vocabulary import NAME, REMOTE_TAG

COMPARABLE = (Kind.BUNDLE, Kind.CHECKPOINT)
USUAL: tuple[dict[str, Any], ...] = (
    {"metric": "accuracy", "max_drop": "1 %"},
    {"metric": "latency_p50", "max_regression": "5 %"},
    {"metric": "size", "max_regression": "5 %"},
)
"""What is asked of a candidate beside a baseline that the recipe does not know."""


def open_tag(store: Store, name: str) -> Artifact:
    """Return what a tag points at; of a remote's tag (``URL#tag``) the artifact is brought here.

    Raises NoTagError where there is none, RecipeError where it is of another kind.
    """
    if name == CANDIDATE:
        raise RecipeError("is the measured bundle's own name; give the tag another one")
    if REMOTE_TAG in name:
        artifact = _pulled(store, name)
    else:
        tag = store.find_tag(name)
        if tag is None:
            raise NoTagError(f"no tag in {store.root}", store.tags())
        artifact = store.open(tag.digest)
    if artifact.kind not in COMPARABLE:
        raise RecipeError(
            f"the tag points at {artifact.kind} {artifact.short}, which answers nothing"
        )
    return artifact


def _pulled(store: Store, name: str) -> Artifact:
    from pipeline.store import remote

    url, reference = remote.split(name)
    if "://" not in url and not url.startswith("/"):
        raise RecipeError(f"{url!r} is no URL and no absolute path")
    return remote.pull(store, url, reference)


def labels_of(name: str, directory: Path) -> list[str]:
    """Return the labels that a model answers with. Raises ModelError where it names none."""
    try:
        named = json.loads((directory / "config.json").read_text())["id2label"]
        return [named[key] for key in sorted(named, key=int)]
    except (OSError, ValueError, KeyError):
        raise ModelError(f"{name}: its config.json names no labels") from None


def check(name: str, directory: Path, labels: list[str]) -> None:
    """Raise ModelError where a model does not answer with just these labels, in this order."""
    own = labels_of(name, directory)
    if own != labels:
        raise ModelError(
            f"{name}: answers with the labels {', '.join(own)}; the other side has "
            f"{', '.join(labels)}: they cannot be compared"
        )


def with_baseline(loaded: LoadedRecipe, tag: str) -> LoadedRecipe:
    """Point every budget against a tag to this one; where there is none, add the usual three.

    Raises RecipeError where the tag could be no tag.
    """
    ids = {step.id for step in loaded.steps}
    if tag in ids or (REMOTE_TAG not in tag and not NAME.fullmatch(tag)):
        what = "is a stage of the recipe" if tag in ids else "is no tag's name"
        raise RecipeError(f"baseline {tag!r}: {what}; expected a tag, or another store's: URL#tag")
    budgets = tuple(
        budget.model_copy(update={"against": tag}) if budget.against in loaded.tags else budget
        for budget in loaded.recipe.budgets
    )
    if not loaded.tags:
        budgets += tuple(Budget(against=tag, **usual) for usual in USUAL)
    return replace(loaded, recipe=loaded.recipe.model_copy(update={"budgets": budgets}))
