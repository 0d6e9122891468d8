"""The example recipes that come with rarefy, and how to copy them to another folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rarefy.flows.new_recipe import editor
from rarefy.pipeline.store import disk
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.errors import RecipeError


@dataclass(frozen=True)
class Example:
    """An example recipe: its name, its path, and the first line of its comments."""

    name: str
    path: Path
    about: str


def folder() -> Path:
    """Return the examples' folder: in the installed package, else in the source tree."""
    packaged = Path(__file__).parent / "recipes"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "examples"


def examples() -> list[Example]:
    """Return all example recipes, sorted by name."""
    return [Example(path.stem, path, about(path)) for path in sorted(folder().glob("*.yaml"))]


def find(name: str) -> Example:
    """Return an example by name. Raises RecipeError, which lists the names, if it is unknown."""
    known = {example.name: example for example in examples()}
    if name not in known:
        names = ", ".join(known) or "none"
        raise RecipeError(f"{name}: no such example; available: {names}")
    return known[name]


def about(path: Path) -> str:
    """Return the first comment line of a recipe, ignoring the editor's schema line."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith(editor.COMMENT):
            return line.lstrip("# ").strip()
    return ""


def copy(example: Example, target: Path, home: Home, force: bool) -> list[Path]:
    """Copy an example to ``target`` (a .yaml file or a folder) with the files that it names.

    Files keep their paths relative to the recipe. Returns the written files, the recipe first.
    Raises RecipeError if a file already exists with other contents, unless ``force``.
    """
    recipe = target if target.suffix in (".yaml", ".yml") else target / example.path.name
    line, lines = editor.schema_line(recipe, home), example.path.read_text(encoding="utf-8")
    text = "".join(e for e in lines.splitlines(keepends=True) if not e.startswith(editor.COMMENT))
    contents = {recipe: (line + text).encode()}
    for path in _named(example):
        contents[recipe.parent / path.relative_to(example.path.resolve().parent)] = (
            path.read_bytes()
        )
    for goal, content in contents.items():
        same = goal.is_file() and goal.read_bytes() == content
        if not force and goal.exists() and not same:
            raise RecipeError(f"{goal} already exists; --force replaces it")
    for goal, content in contents.items():
        with disk.placing(goal):
            goal.write_bytes(content)
    return list(contents)


def _named(example: Example) -> list[Path]:
    """Return the files that an example names in its own folder, and their licences."""
    from rarefy.pipeline.recipe import recipe as recipes

    loaded = recipes.load(example.path)
    named = [loaded.base / reference for reference in loaded.recipe.data.references.values()]
    named += [path for step in loaded.steps for path in step.stage.files(loaded.base)]
    found = {path.resolve() for path in named if path.is_file()}
    beside = {path for path in found if path.is_relative_to(loaded.base)}
    licences = {path.parent / name for path in beside for name in ("LICENSE", "README.md")}
    return sorted(beside | {path for path in licences if path.is_file()})
