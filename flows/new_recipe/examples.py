"""The example recipes that come with rarefy, how to copy them, and the line for editors.

The first line of a recipe tells an editor where the schema is, with which it completes keys.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from rarefy.pipeline.store import disk
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.errors import RecipeError

SCHEMA_COMMENT = "# yaml-language-server:"
"""The start of the line that tells an editor where the schema is."""


@dataclass(frozen=True)
class Example:
    """An example recipe: its name, its path, and the first line of its comments."""

    name: str
    path: Path
    about: str


def folder() -> Path:
    """Return the examples' folder: in the installed package, else in the source tree."""
    packaged = Path(__file__).parents[1] / "recipes"
    if packaged.is_dir():
        return packaged
    return Path(__file__).resolve().parents[2] / "examples"


def examples() -> list[Example]:
    """Return all example recipes, sorted by name."""
    paths = sorted(folder().glob("*.yaml"))
    return [Example(path.stem, path, about(path)) for path in paths]


def find(name: str) -> Example:
    """Return an example by name. Raises RecipeError, which lists the names, if it is unknown."""
    by_name = {example.name: example for example in examples()}
    if name not in by_name:
        names = ", ".join(by_name) or "none"
        raise RecipeError(f"{name}: no such example; available: {names}")
    return by_name[name]


def about(path: Path) -> str:
    """Return the first comment line of a recipe, ignoring the editor's schema line."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith(SCHEMA_COMMENT):
            return line.lstrip("# ").strip()
    return ""


def schema_line(recipe: Path, home: Home) -> str:
    """Write the schema of the installed stages into ``home``; return the line that names it.

    Raises RecipeError if ``home`` cannot be a folder.
    """
    from rarefy.pipeline.recipe.schema import json_schema

    path = home.path / "recipe.schema.json"
    schema = json.dumps(json_schema(), indent=1)
    home.make()
    with disk.placing(path):
        path.write_text(schema, encoding="utf-8")
    base = recipe.resolve().parent
    relative = Path(os.path.relpath(path.resolve(), base)).as_posix()
    return f"{SCHEMA_COMMENT} $schema={relative}\n"


def copy(example: Example, target: Path, home: Home, force: bool) -> list[Path]:
    """Copy an example with the files that it names; they keep their paths relative to it.

    Args:
        example: The example to copy.
        target: A .yaml file, or the folder for the copy.
        home: The folder for the schema that the copy's first line names.
        force: Whether to replace files that exist with other contents.

    Returns:
        The written files, the recipe first.

    Raises:
        RecipeError: A file exists with other contents, or none can be written at its place.
    """
    recipe = target
    if target.suffix not in (".yaml", ".yml"):
        recipe = target / example.path.name
    source_folder = example.path.resolve().parent
    contents = {recipe: _recipe_bytes(example, recipe, home)}
    for path in _named_files(example):
        destination = recipe.parent / path.relative_to(source_folder)
        contents[destination] = path.read_bytes()
    if not force:
        for destination, content in contents.items():
            _check_free(destination, content)
    for destination, content in contents.items():
        with disk.placing(destination):
            destination.write_bytes(content)
    return list(contents)


def _recipe_bytes(example: Example, recipe: Path, home: Home) -> bytes:
    """Return an example's text for another place: with that place's line for editors."""
    text = schema_line(recipe, home)
    for line in example.path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.startswith(SCHEMA_COMMENT):
            text += line
    return text.encode()


def _check_free(path: Path, content: bytes) -> None:
    """Raise RecipeError if there is something at a path other than a file with this content."""
    if not path.exists():
        return
    if not path.is_file() or path.read_bytes() != content:
        raise RecipeError(f"{path} already exists; --force replaces it")


def _named_files(example: Example) -> list[Path]:
    """Return the files that an example names in its own folder, and their licences."""
    from rarefy.pipeline.recipe import recipe as recipes

    loaded = recipes.load(example.path)
    base = loaded.base
    paths = [base / reference for reference in loaded.recipe.data.references.values()]
    for step in loaded.steps:
        paths += step.stage.files(base)
    files: set[Path] = set()
    for path in paths:
        file = path.resolve()
        if file.is_file() and file.is_relative_to(base):
            files.add(file)
    licences: set[Path] = set()
    for file in files:
        for name in ("LICENSE", "README.md"):
            licence = file.parent / name
            if licence.is_file():
                licences.add(licence)
    return sorted(files | licences)
