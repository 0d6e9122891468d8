"""What the shell completes: the names of runs, tags and examples.

A key press waits for it, so it only lists folders. It is never an error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import rich_click as click
from click.shell_completion import CompletionItem

from rarefy.pipeline.store.home import Home

Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def runs(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the names of the runs in ``--home``, and files."""
    items = _items(_runs(context), incomplete)
    return [*items, CompletionItem(incomplete, type="file")]


def tags(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the names of the tags in ``--home``."""
    return _items(_tags(context), incomplete)


def runs_and_tags(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the names of the runs and tags in ``--home``, and files."""
    names = {*_runs(context), *_tags(context)}
    items = _items(names, incomplete)
    return [*items, CompletionItem(incomplete, type="file")]


def examples(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the names of the example recipes."""
    from rarefy.flows.new_recipe.examples import folder

    names = []
    for path in folder().glob("*.yaml"):
        names.append(path.stem)
    return _items(names, incomplete)


def _runs(context: click.Context) -> list[str]:
    folder = _home(context).runs
    return [path.name for path in _listed(folder) if path.is_dir()]


def _tags(context: click.Context) -> list[str]:
    folder = _home(context).path / "store" / "tags"
    return [path.stem for path in _listed(folder) if path.suffix == ".json"]


def _home(context: click.Context) -> Home:
    """Return the home that the command line names; its value has not been converted yet."""
    home = context.params.get("home")
    if isinstance(home, Home):
        return home
    return Home.of(home)


def _listed(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in os.listdir(folder)]  # noqa: PTH208
    except OSError:  # nothing has run here
        return []


def _items(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    items = []
    for name in sorted(names):
        if name.startswith(incomplete):
            items.append(CompletionItem(name))
    return items
