"""The recipe of a branch that was chosen, as a file that runs where it lies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pipeline.recipe import yaml_source
from pipeline.recipe.recipe import LoadedRecipe
from pipeline.store import disk
from pipeline.sweep import variants
from pipeline.sweep.branch import Branch
from pipeline.sweep.sweep_file import Question, Sweep
from pipeline.sweep.variants import Variant
from pipeline.terms.vocabulary import NAME


def name(sweep: Sweep, question: Question) -> str:
    """Return the name of the recipe that answers a question; it names its run and its history."""
    wanted = f"{sweep.file.name}-{question.name}"
    return wanted if NAME.fullmatch(wanted) else f"{sweep.file.name[:20]}-{question.name}"[:64]


def recipe(sweep: Sweep, question: Question, branch: Branch) -> LoadedRecipe:
    """Return the recipe of the branch that answers a question, under a name of its own."""
    return variants.recipe(sweep, Variant(branch.name, branch.values), name(sweep, question))


def write(sweep: Sweep, question: Question, branch: Branch, folder: Path) -> Path:
    """Write the recipe of a chosen branch to ``folder``, with paths that start there.

    Stages of the recipe's own (``module:Class``) are still looked for beside the file.
    """
    made = recipe(sweep, question, branch)
    values = yaml_source.parse(made.text.encode(), made.where.source).values
    moved = _moved(values, made.base, folder.resolve())
    if (made.base / values["model"]).is_dir():  # a folder without a slash is a word elsewhere
        moved["model"] = os.path.relpath(made.base / values["model"], folder.resolve())
    chosen = ", ".join(f"{path} = {value}" for path, value in branch.values.items())
    head = (
        f"# {question.words().capitalize()} of the sweep {sweep.file.name}: {chosen}.\n"
        "# Chosen on the development rows; `rarefy run` measures it on the eval rows.\n"
    )
    path = folder / f"{question.name}.yaml"
    disk.write_text(path, head + yaml_source.dump(moved))
    return path


def _moved(value: Any, base: Path, folder: Path) -> Any:
    """Return plain values whose paths of files that exist start in another folder."""
    if isinstance(value, dict):
        return {key: _moved(each, base, folder) for key, each in value.items()}
    if isinstance(value, list):
        return [_moved(each, base, folder) for each in value]
    if not isinstance(value, str) or Path(value).is_absolute():
        return value
    there = base / value
    is_path = there.is_file() or ("/" in value and there.is_dir())
    return os.path.relpath(there, folder) if is_path else value
