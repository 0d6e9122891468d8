"""A reference of recipes in Markdown: every key, every stage with its parameters, every metric."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.recipe.recipe import BESIDE
from pipeline.recipe.schema import json_schema
from pipeline.stage import tasks
from pipeline.terms.errors import RecipeError
from pipeline.terms.metrics import FORMS, METRICS, of_kind
from pipeline.terms.naming import hint
from pipeline.terms.vocabulary import Data

HEAD = """# Every key of a recipe

`rarefy recipe reference` writes this page from the code, and `rarefy recipe reference STAGE` prints
what a stage does.

"""
PARTS = {
    "Data": "`data`",
    "Target": "An entry of `targets`",
    "Budget": "An entry of `budgets`",
    "TextFile": "An entry of `texts`, in `augment`",
}
STAGES = """## Stages

Besides its parameters, an entry of `stages` may have `as`, the stage's id, `from`, the id of the
stage whose output it takes (without it, that of the stage before), and `seed`, its own instead of
the recipe's.
"""
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}

Schema = Mapping[str, Any]


def markdown(stage: str | None = None) -> str:
    """Return the whole reference, or the section of one ``stage``.

    Raises RecipeError with the most similar name if no such stage is installed.
    """
    schema = json_schema()
    stages = _stages(schema)
    if stage is not None:
        if stage not in stages:
            raise RecipeError(f"unknown stage {stage!r}{hint(stage, stages)}")
        return _section(f"`{stage}`", stages[stage])
    recipe = {**schema, "description": "", "title": ""}
    lists = ("data", "stages", "targets", "budgets")  # have sections of their own
    recipe["properties"] = {k: v for k, v in schema["properties"].items() if k not in lists}
    pages = [_section("The recipe", recipe)]
    pages += [_section(title, schema["$defs"][name]) for name, title in PARTS.items()]
    head = ("metric", "what it is", "a budget may say", "tasks")
    pages += ["## Metrics of budgets\n\n" + _table(head, _metrics()), STAGES]
    pages += [_section(f"`{name}`", own, "###") for name, own in stages.items()]
    return HEAD + "\n\n".join(page.strip() for page in pages) + "\n"


def _stages(schema: Schema) -> dict[str, Schema]:
    entry = schema["properties"]["stages"]["items"]["anyOf"][1]["properties"]
    return {name: own["anyOf"][0] for name, own in entry.items() if name not in BESIDE}


def _section(title: str, own: Schema, level: str = "##") -> str:
    """Return the section of an object: its description, and a table of its keys."""
    needed = own.get("required", ())
    rows = [
        (
            f"`{key}`",
            _values(value),
            "needed" if key in needed else _written(value.get("default")),
            value.get("description", ""),
        )
        for key, value in own["properties"].items()
    ]
    words = _prose(own.get("description", ""))
    return "\n\n".join(
        part
        for part in (
            f"{level} {title}",
            words,
            _table(("key", "value", "default", "what it is"), rows) if rows else "",
        )
        if part
    )


def _prose(description: str) -> str:
    """Return a docstring as Markdown: ``x`` as `x`, and lines that name a term first as a list."""
    paragraphs = description.replace("``", "`").split("\n\n")
    return "\n\n".join(
        re.sub(r"^(`\S+`(?: / `\S+`)?)\s{2,}", r"- \1: ", paragraph, flags=re.MULTILINE)
        for paragraph in paragraphs
    )


def _values(value: Schema) -> str:
    """Return what a key may be: its alternatives, with their bounds."""
    kinds = [_kind(choice) for choice in value.get("anyOf", [value])]
    return ", or ".join(dict.fromkeys(kind for kind in kinds if kind))


def _kind(choice: Schema) -> str:
    if "$ref" in choice:
        return str(choice["$ref"].rsplit("/", 1)[-1])
    if "const" in choice:
        return f"`{choice['const']}`"
    if "enum" in choice:
        return ", ".join(f"`{name}`" for name in choice["enum"])
    bounds = [f"{sign} {choice[key]:.10g}" for key, sign in BOUNDS.items() if key in choice]
    kinds = choice.get("type", "")
    words = [_WORDS.get(kind, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)]
    if words == ["list"]:
        of = _values(choice["items"]) if choice.get("items") else ""
        return f"list of {of}" if of else "list"
    return " ".join(part for part in (" or ".join(filter(None, words)), ", ".join(bounds)) if part)


_WORDS = {"array": "list", "boolean": "yes or no", "string": "text", "null": "", "object": "keys"}


def _written(default: Any) -> str:
    """Return a default as a recipe writes it."""
    if default is None or default == []:
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default}`"


def _metrics() -> Iterable[tuple[str, ...]]:
    files = {"train": "-", "eval": "-"}
    plain, ranked = (
        Data.model_validate(files | options) for options in ({}, {"group": "-", "corpus": "-"})
    )
    of = {}
    for name in tasks.names():
        task = tasks.find(name)
        of[name] = {*task.scored(plain), *task.scored(ranked)}
        of[name] |= set(of_kind("divergence")) if task.probable else set()
    for key, metric in METRICS.items():
        where = [f"`{name}`" for name, scores in of.items() if key in scores]
        unit = f", {metric.unit}" if metric.unit else ""
        forms = ", ".join(f"`{form}`" for form in FORMS if form in metric.forms)
        yield f"`{key}`", metric.title + unit, forms, ", ".join(where) or "all"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    cells = ([cell.replace("|", r"\|").replace("``", "`") for cell in line] for line in lines)
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)
