"""The JSON schema of recipes, which editors read."""

from __future__ import annotations

import json
from typing import Any

from pipeline.recipe.recipe import Recipe
from pipeline.stage import discovery
from pipeline.terms.errors import RecipeError


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe, with every stage's parameters that can be loaded."""
    schema = Recipe.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "rarefy recipe"
    names = sorted(discovery.installed())
    entry: dict[str, Any] = {
        "type": "object",
        "properties": {"as": {"type": "string"}, "from": {"type": "string"}},
        "minProperties": 1,
    }
    for name in names:
        try:
            own = discovery.find(name).model_json_schema()
        except RecipeError:
            continue  # a broken plug-in is named when a recipe names it
        schema["$defs"].update(own.pop("$defs", {}))
        entry["properties"][name] = {"anyOf": [own, {"type": "null"}]}
    schema["properties"]["stages"]["items"] = {"anyOf": [{"type": "string"}, entry]}
    # What ``Recipe._listed`` allows: one budget without its list, a regression without a metric.
    budget = schema["$defs"]["Budget"]
    budget["anyOf"] = [{"required": [key]} for key in (*budget.pop("required"), "max_regression")]
    budgets = schema["properties"]["budgets"]
    one = budgets["items"]
    schema["properties"]["budgets"] = {"anyOf": [budgets, one]}
    return json.loads(json.dumps(schema))  # type: ignore[no-any-return]
