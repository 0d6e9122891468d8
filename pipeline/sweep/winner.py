"""The recipe of a branch that was chosen, as a file beside the recipe that it is a variant of.

There, its paths and the stages of its own mean the same, and all that its branch made is found in
the store.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from pipeline.store import disk
from pipeline.sweep import variants
from pipeline.sweep.branch import Branch
from pipeline.sweep.questions import Question
from pipeline.sweep.sweep_file import Sweep
from pipeline.terms.errors import RecipeError

HEAD: Final = "# Chosen by rarefy sweep: "
PURPOSE: Final = "# Chosen on the development rows. What its verdict on the eval rows is:"


def place(sweep: Sweep, question: Question) -> Path:
    """Return the file of the recipe that answers a question."""
    return sweep.recipe.base / f"{sweep.file.named(question)}.yaml"


def check(sweep: Sweep) -> None:
    """Raise RecipeError if a recipe cannot be named for its question, or a file is in its place."""
    for question in sweep.file.ask:
        variants.recipe(sweep, {"name": sweep.file.named(question)})
        path = place(sweep, question)
        if path.exists() and not _is_ours(path):
            raise RecipeError(
                f"{path}: the recipe that answers a question would replace this file, which no "
                "sweep has written; rename the sweep, or the file"
            )


def _is_ours(path: Path) -> bool:
    return path.is_file() and path.read_bytes().startswith(HEAD.encode())


def write(sweep: Sweep, question: Question, branch: Branch, command: str) -> None:
    """Write the recipe of a chosen branch. ``command``: what repeats its run.

    Raises RecipeError if it cannot be written.
    """
    name = sweep.file.named(question)
    loaded = variants.recipe(sweep, {**branch.values, "name": name})
    choice = json.dumps(branch.values)
    purpose = f"{question.words()} of {sweep.file.name}: {choice}"
    text = f"{HEAD}{purpose}\n{PURPOSE}\n# {command}\n{loaded.text}"
    path = place(sweep, question)
    with disk.placing(path):
        disk.write_text(path, text)
