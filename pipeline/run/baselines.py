"""Resolve the tag of a budget to an artifact of this store or of a remote one."""

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
from pipeline.terms import credentials
from pipeline.terms.budget import Budget
from pipeline.terms.errors import ModelError, RecipeError
from pipeline.terms.naming import misspelt
from pipeline.terms.vocabulary import NAME, REMOTE_TAG

COMPARABLE = (Kind.BUNDLE, Kind.CHECKPOINT)
USUAL: tuple[dict[str, Any], ...] = (
    {"metric": "accuracy", "max_drop": "1 %"},
    {"metric": "latency_p50", "max_regression": "5 %"},
    {"metric": "size", "max_regression": "5 %"},
)
"""The budgets against a baseline if the recipe has none."""


def open_tag(store: Store, name: str) -> Artifact:
    """Return the artifact that a tag points at; pull it first if the tag is remote (``URL#tag``).

    Raises NoTagError if the tag does not exist, RecipeError if it points at an artifact that
    makes no predictions.
    """
    if name == CANDIDATE:
        raise RecipeError("this name is reserved for the measured bundle; choose another tag")
    if REMOTE_TAG in name:
        artifact = _pulled(store, name)
    else:
        tag = store.find_tag(name)
        if tag is None:
            raise NoTagError(f"no tag in {store.root}", store.tags())
        artifact = store.open(tag.digest)
    if artifact.kind not in COMPARABLE:
        raise RecipeError(
            f"the tag points at {artifact.kind} {artifact.short}, which makes no predictions"
        )
    return artifact


def check_first(name: str, missing: NoTagError) -> None:
    """Raise RecipeError if a tag that does not exist is rather mistyped than a first release.

    That is so if its remote does not exist either, or if there is a tag with nearly the same name.
    """
    tag = name
    if REMOTE_TAG in name:
        from pipeline.store import remote

        url, tag = remote.split(name)
        remote.Remote.open(url).check_exists()
    near = misspelt(tag, missing.known)
    if near is not None:
        raise RecipeError(
            f"there is no tag {tag!r}, but there is {near!r}; correct the name, or, if it is "
            "right, create the tag by hand with `rarefy artifact tag` (`push --tag` for a remote)"
        )


def _pulled(store: Store, name: str) -> Artifact:
    from pipeline.store import remote

    url, reference = remote.split(name)
    if "://" not in url and not url.startswith("/"):
        raise RecipeError(f"{url!r} is neither a URL nor an absolute path")
    return remote.pull(store, url, reference)


def labels_of(name: str, directory: Path) -> list[str]:
    """Return the labels that a model predicts. Raises ModelError if its config names none."""
    try:
        named = json.loads((directory / "config.json").read_text())["id2label"]
        return [named[key] for key in sorted(named, key=int)]
    except (OSError, ValueError, KeyError):
        raise ModelError(f"{name}: config.json does not name the labels") from None


def check(name: str, directory: Path, labels: list[str]) -> None:
    """Raise ModelError if a model does not predict exactly these labels, in this order."""
    own = labels_of(name, directory)
    if own != labels:
        raise ModelError(
            f"{name}: predicts the labels {', '.join(own)}, but the other side has "
            f"{', '.join(labels)}, so they cannot be compared"
        )


def with_baseline(loaded: LoadedRecipe, tag: str) -> LoadedRecipe:
    """Point every budget against a tag to this one; if there is none, add the usual three.

    Raises RecipeError if ``tag`` is a stage of the recipe or not a valid tag name.
    """
    if credentials.found_in(tag):
        raise RecipeError(f"--baseline: {credentials.REFUSED}")
    ids = {step.id for step in loaded.steps}
    if tag in ids or (REMOTE_TAG not in tag and not NAME.fullmatch(tag)):
        what = "is a stage of the recipe" if tag in ids else "is not a valid tag name"
        raise RecipeError(f"baseline {tag!r} {what}; give a tag, or URL#tag for a remote store")
    budgets = tuple(
        budget.model_copy(update={"against": tag}) if budget.against in loaded.tags else budget
        for budget in loaded.recipe.budgets
    )
    if not loaded.tags:
        budgets += tuple(Budget(against=tag, **usual) for usual in USUAL)
    return replace(loaded, recipe=loaded.recipe.model_copy(update={"budgets": budgets}))
