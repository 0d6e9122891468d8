"""A reference of recipes in Markdown: every key, every stage with its parameters, every metric."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rarefy.pipeline import tasks
from rarefy.pipeline.recipe.recipe import BESIDE
from rarefy.pipeline.recipe.schema import json_schema
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.terms.metrics import FORMS, METRICS, of_kind
from rarefy.pipeline.terms.recipe_parts import Data
from rarefy.pipeline.terms.wording import hint

HEAD = """# Every key of a recipe

`rarefy recipe reference` writes this text from the code, and `rarefy recipe reference STAGE` prints
the section of one stage.

"""
PARTS = {
    "Data": "`data`",
    "Target": "An entry of `targets`",
    "Budget": "An entry of `budgets`",
    "TextFile": "An entry of `texts`, in `augment`",
}
ELSEWHERE = {"data", "stages", "targets", "budgets"}
"""Keys of a recipe that have sections of their own."""
STAGES = """## Stages

In addition to its parameters, an entry of `stages` may have `as` (the stage's ID), `from` (the ID
of the stage whose output it takes; default: the stage before) and `seed` (default: the recipe's).
"""
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}

Schema = Mapping[str, Any]


def markdown(stage: str | None = None) -> str:
    """Return the whole reference, or the section of one ``stage``.

    Raises RecipeError with the most similar name if no such stage is installed.
    """
    if stage is not None:
        sections = stage_sections()
        if stage not in sections:
            raise RecipeError(f"unknown stage {stage!r}{hint(stage, sections)}")
        return sections[stage]
    stages = stage_sections("###").values()
    metrics = metrics_table()
    parts = [*keys(), f"## Metrics of budgets\n\n{metrics}", STAGES, *stages]
    text = "\n\n".join(part.strip() for part in parts)
    return f"{HEAD}{text}\n"


def stage_sections(level: str = "##") -> dict[str, str]:
    """Return the section of each installed stage: its description and its parameters."""
    stages = _stages(json_schema())
    return {name: _section(f"`{name}`", keys, level) for name, keys in stages.items()}


def keys() -> Iterator[str]:
    """Yield the sections of the recipe's own keys and of its parts."""
    schema = json_schema()
    keys = {}
    for key, value in schema["properties"].items():
        if key not in ELSEWHERE:
            keys[key] = value
    recipe = dict(schema)
    recipe["description"] = ""
    recipe["properties"] = keys
    yield _section("The recipe", recipe)
    for name, title in PARTS.items():
        yield _section(title, schema["$defs"][name])


def metrics_table() -> str:
    """Return the table of the metrics that budgets may bound."""
    return table(("metric", "description", "budget forms", "tasks"), _metrics())


def _stages(schema: Schema) -> dict[str, Schema]:
    """Return the schema of the parameters of each stage."""
    text_or_entry = schema["properties"]["stages"]["items"]["anyOf"]
    stages = {}
    for name, value in text_or_entry[1]["properties"].items():
        if name not in BESIDE:
            stages[name] = value["anyOf"][0]
    return stages


def _section(title: str, keys: Schema, level: str = "##") -> str:
    """Return the section of an object: its description, and a table of its keys."""
    required = keys.get("required", ())
    rows = []
    for key, value in keys["properties"].items():
        default = "needed" if key in required else _written(value.get("default"))
        description = value.get("description", "")
        rows.append((f"`{key}`", _values(value), default, description))
    prose = _prose(keys.get("description", ""))
    parts = [f"{level} {title}"]
    if prose:
        parts.append(prose)
    if rows:
        parts.append(table(("key", "value", "default", "description"), rows))
    return "\n\n".join(parts)


def _prose(description: str) -> str:
    """Return a docstring as Markdown: ``x`` as `x`, and lines that name a term first as a list."""
    text = description.replace("``", "`")
    return re.sub(r"^(`\S+`(?: / `\S+`)?) {2,}", r"- \1: ", text, flags=re.MULTILINE)


def _values(value: Schema) -> str:
    """Return what a key may be: its alternatives, with their bounds."""
    choices = value.get("anyOf", [value])
    kinds = filter(None, map(_kind, choices))
    return ", or ".join(dict.fromkeys(kinds))


def _kind(choice: Schema) -> str:
    """Return what one alternative of a key may be."""
    if "$ref" in choice:
        return str(choice["$ref"].rsplit("/", 1)[-1])
    if "const" in choice:
        return f"`{choice['const']}`"
    if "enum" in choice:
        return _names(choice["enum"])
    types = choice.get("type", "")
    if types == "array":
        items = choice.get("items")
        return f"list of {_values(items)}" if items else "list"
    if isinstance(types, str):
        types = [types]
    nouns = [_WORDS.get(name, name) for name in types]
    bounds = [f"{sign} {choice[key]:.10g}" for key, sign in BOUNDS.items() if key in choice]
    words = [" or ".join(filter(None, nouns)), ", ".join(bounds)]
    return " ".join(filter(None, words))


_WORDS = {"boolean": "yes or no", "string": "text", "null": "", "object": "keys"}


def _written(default: Any) -> str:
    """Return a default as a recipe writes it."""
    if default is None or default == []:
        return ""
    if isinstance(default, bool):
        default = str(default).lower()
    return f"`{default}`"


def _metrics() -> Iterator[tuple[str, ...]]:
    """Yield a row for each metric: its name, description, the forms of budgets, and its tasks."""
    files = {"train": "-", "eval": "-"}
    plain = Data.model_validate(files)
    ranked = Data.model_validate(files | {"group": "-", "corpus": "-"})
    scores_of = {}
    for name in tasks.names():
        task = tasks.find(name)
        scores = {*task.scorer.score_names(plain), *task.scorer.score_names(ranked)}
        scores.update(task.scorer.on_request)
        if task.scorer.probable:
            scores.update(of_kind("divergence"))
        scores_of[name] = scores
    for key, metric in METRICS.items():
        scored_by = [name for name, scores in scores_of.items() if key in scores]
        title = f"{metric.title}, {metric.unit}" if metric.unit else metric.title
        forms = [form for form in FORMS if form in metric.forms]
        yield f"`{key}`", title, _names(forms), _names(scored_by) or "all"


def _names(names: Iterable[str]) -> str:
    """Return names as code in Markdown, separated by commas."""
    return ", ".join(f"`{name}`" for name in names)


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = []
    for row in (head, ("---",) * len(head), *rows):
        cells = [cell.replace("|", r"\|").replace("``", "`") for cell in row]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
