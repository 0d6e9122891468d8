"""``rarefy recipe``: list and copy the examples; show and check recipes without running them."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from rarefy.flows.console import completion
from rarefy.flows.console.options import (
    home_option,
    json_option,
    no_code_option,
    recipe_argument,
    show_json,
    show_table,
)
from rarefy.pipeline.store.home import Home

if TYPE_CHECKING:
    from rarefy.pipeline.store.store import Store
    from rarefy.pipeline.terms.errors import RarefyError


@click.group(short_help="List, copy, show and check recipes; explain their keys.")
def recipe() -> None:
    """Copy the example recipes, and show and check recipes before they run."""


@recipe.command("ls", short_help="List the examples that come with rarefy.")
@json_option
def list_examples(as_json: bool) -> None:
    """List the examples with a short description; `rarefy recipe cp NAME` copies one.

    Example: `rarefy recipe ls`
    """
    from rich.table import Table

    from rarefy.flows.new_recipe.examples import examples

    rows = examples()
    if as_json:
        show_json([{"name": row.name, "about": row.about, "path": str(row.path)} for row in rows])
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for example in rows:
        table.add_row(example.name, example.about)
    show_table(table)


@recipe.command("cp", short_help="Copy an example with the data that it reads.")
@click.argument("name", shell_complete=completion.examples)
@click.argument("destination", type=click.Path(path_type=Path), default=Path())
@click.option("--force", is_flag=True, help="Replace existing files.")
@home_option
@json_option
def copy_example(name: str, destination: Path, force: bool, home: Home, as_json: bool) -> None:
    """Copy the example NAME and its data files to DESTINATION, a folder or a .yaml file.

    Example: `rarefy recipe cp demo my-project/`
    """
    from rarefy.flows.new_recipe import examples

    written = examples.copy(examples.find(name), destination, home, force)
    if as_json:
        show_json({"recipe": str(written[0]), "files": [str(path) for path in written[1:]]})
        return
    click.echo(str(written[0]))
    for path in written[1:]:
        click.echo(f"also copied {path}", err=True)


@recipe.command(short_help="Print a recipe with its defaults filled in.")
@recipe_argument
@json_option
def show(recipe: Path, as_json: bool) -> None:
    """Print RECIPE with every default filled in and comments on what each stage does.

    The output is an equivalent recipe.

    Example: `rarefy recipe show demo.yaml`
    """
    from rarefy.pipeline.recipe import recipe as recipes
    from rarefy.pipeline.recipe.writing import as_values, as_yaml

    loaded = recipes.load(recipe)
    if as_json:
        about = {step.id: inspect.getdoc(step.stage) or "" for step in loaded.steps}
        show_json(as_values(loaded) | {"about": about})
        return
    click.echo(as_yaml(loaded), nl=False)


@recipe.command(short_help="Check recipes, their data and models without running them.")
@click.argument("recipes", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@no_code_option
@home_option
@json_option
def check(recipes: tuple[Path, ...], no_code: bool, home: Home, as_json: bool) -> int:
    """Check each of RECIPES: keys, values, the order of stages, budgets, data files and the model.

    A stage `module:Class` is imported, so code next to the recipe runs. With --no-code it is not
    imported, and only the form of such a recipe is checked.

    Errors name the file, the line and the key, each on a line; those that follow from others are
    left out. All recipes are checked; the exit code is that of the first error, 2 for a wrong
    recipe.

    Example: `rarefy recipe check recipes/*.yaml`
    """
    code = 0
    checks = []
    for path in recipes:
        check = _check(path, no_code, home)
        checks.append(check)
        code = code or check.exit_code
        if not as_json:
            click.echo(check.text, err=bool(check.errors))
    if as_json:
        show_json([check.as_json() for check in checks])
    return code


@dataclass(frozen=True)
class _Check:
    """What came of the check of a recipe; ``unchecked`` names its stages that were not imported."""

    path: Path
    errors: tuple[str, ...] = ()
    exit_code: int = 0
    unchecked: tuple[str, ...] = ()
    warnings: list[str] | None = None

    @classmethod
    def failed(cls, path: Path, errors: Sequence[RarefyError]) -> _Check:
        """Return the check of a recipe with errors, each of which names its file."""
        messages = []
        for error in errors:
            message = str(error)
            if str(path) not in message:
                message = f"{path}: {message}"
            if message not in messages:
                messages.append(message)
        return cls(path, tuple(messages), errors[0].exit_code)

    @property
    def text(self) -> str:
        if self.errors:
            return "\n".join(self.errors)
        if not self.unchecked:
            return f"ok {self.path}"
        return (
            f"ok {self.path} (only its form: {', '.join(self.unchecked)} was not imported, so its "
            "parameters, the order of stages, data and model were not checked)"
        )

    def as_json(self) -> dict[str, Any]:
        values: dict[str, Any] = {"recipe": str(self.path), "ok": not self.errors}
        values["error"] = next(iter(self.errors), None)
        values["errors"] = self.errors
        if self.unchecked:
            values["unchecked"] = self.unchecked
        if self.warnings is not None:
            values["warnings"] = self.warnings
        return values


def _check(path: Path, no_code: bool, home: Home) -> _Check:
    """Plan a recipe, or check its form if ``no_code`` and it has stages of its own."""
    from rarefy.pipeline.recipe.recipe import check_form, find_errors, load
    from rarefy.pipeline.run.plan.plan import Plan
    from rarefy.pipeline.terms.errors import RarefyError, RecipeError

    try:
        stages = check_form(path) if no_code else []
        if stages:
            return _Check(path, unchecked=tuple(stages))
        errors: Sequence[RarefyError] = find_errors(path)
        if errors:
            return _Check.failed(path, errors)
        # A missing tag gives a warning, not an error: it may exist where the recipe will run.
        with _store(home) as store:
            plan = Plan(load(path), store, first=True)
            errors = plan.find_errors()
            if errors:
                return _Check.failed(path, errors)
            return _Check(path, warnings=plan.warnings)
    except RecipeError as error:
        return _Check.failed(path, [error, *error.others])
    except RarefyError as error:
        return _Check.failed(path, [error])


@contextmanager
def _store(home: Home) -> Iterator[Store]:
    """Yield the home's store, or one that is thrown away: a check makes no home."""
    if (home.path / "store").is_dir():
        yield home.store()
        return
    with tempfile.TemporaryDirectory(prefix="rarefy-check-") as folder:
        yield Home(Path(folder)).store()


@recipe.command(short_help="Print the JSON schema of recipes, or of sweeps.")
@click.option("--sweep", is_flag=True, help="Print the schema of sweep files instead.")
@json_option
def schema(sweep: bool, as_json: bool) -> None:
    """Print the JSON schema of recipes for editors, with the parameters of the installed stages.

    Example: `rarefy recipe schema > recipe.schema.json`
    """
    from rarefy.pipeline.recipe.schema import json_schema
    from rarefy.pipeline.sweep import file as sweep_file

    show_json(sweep_file.json_schema() if sweep else json_schema())


@recipe.command(short_help="Print what every key of a recipe, or of one stage, means.")
@click.argument("stage", required=False)
@json_option
def reference(stage: str | None, as_json: bool) -> None:
    """Print a reference in Markdown: the keys of recipes, stages, budgets and their metrics.

    With STAGE, only that stage: what it does, with its papers, and its parameters.

    Example: `rarefy recipe reference quantize`
    """
    from rarefy.pipeline.recipe.reference import markdown

    text = markdown(stage)
    if as_json:
        show_json({"markdown": text})
        return
    click.echo(text.rstrip("\n"))
