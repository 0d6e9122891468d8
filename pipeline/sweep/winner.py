"""The recipe of a branch that was chosen, as a file beside the recipe that it is a variant of.

There, its paths and the stages of its own mean the same, and all that its branch made is found in
the store.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

from pipeline.recipe.recipe import LoadedRecipe
from pipeline.store import disk
from pipeline.sweep import variants
from pipeline.sweep.branch import Branch
from pipeline.sweep.questions import Question
from pipeline.sweep.sweep_file import Sweep
from pipeline.sweep.variants import Variant
from pipeline.terms.errors import RecipeError

HEAD: Final = "# Chosen by rarefy sweep: "


def place(sweep: Sweep, question: Question) -> Path:
    """Return the file of the recipe that answers a question."""
    return sweep.recipe.base / f"{sweep.file.named(question)}.yaml"


def check(sweep: Sweep) -> None:
    """Raise RecipeError if a file of an answer cannot be written, or is not from a sweep."""
    if not os.access(sweep.recipe.base, os.W_OK):
        raise RecipeError(
            f"{sweep.recipe.base}: the recipes of the answers are written here, and this folder "
            f"cannot be written; copy {sweep.recipe.path} and its data to one of yours"
        )
    for question in sweep.file.ask:
        path = place(sweep, question)
        if path.exists() and not (path.is_file() and path.read_bytes().startswith(HEAD.encode())):
            raise RecipeError(
                f"{path}: the recipe that answers a question would replace this file, which no "
                "sweep has written; rename the sweep, or the file"
            )


def write(sweep: Sweep, question: Question, branch: Branch, command: str) -> LoadedRecipe:
    """Write the recipe of a chosen branch; return it. ``command``: what repeats its run."""
    chosen = Variant(branch.name, branch.values)
    made = variants.recipe(sweep, chosen, sweep.file.named(question))
    values = ", ".join(f"{path} = {json.dumps(value)}" for path, value in branch.values.items())
    head = (
        f"{HEAD}{question.words()} of {sweep.file.name}: {values}\n"
        f"# Chosen on the development rows. What its verdict on the eval rows is:\n# {command}\n"
    )
    disk.write_text(place(sweep, question), head + made.text)
    return made
