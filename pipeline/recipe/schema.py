"""The JSON schema of recipes, for editors."""

from __future__ import annotations

import json
from typing import Any

from pipeline.recipe.recipe import SEEDS, Recipe
from pipeline.stage import discovery
from pipeline.terms.errors import RecipeError


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe, with the parameters of every stage that can be loaded."""
    schema = Recipe.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "rarefy recipe"
    names = sorted(discovery.installed())
    seed = {"type": "integer", "minimum": 0, "exclusiveMaximum": SEEDS}
    entry: dict[str, Any] = {
        "type": "object",
        "properties": {"as": {"type": "string"}, "from": {"type": "string"}, "seed": seed},
        "minProperties": 1,
    }
    for name in names:
        try:
            own = discovery.find(name).model_json_schema()
        except RecipeError:
            continue  # a broken plug-in is reported when a recipe uses it
        schema["$defs"].update(own.pop("$defs", {}))
        entry["properties"][name] = {"anyOf": [own, {"type": "null"}]}
    schema["properties"]["stages"]["items"] = {"anyOf": [{"type": "string"}, entry]}
    # Short forms of ``Recipe._listed``: a budget without a list, a regression without a metric.
    budget = schema["$defs"]["Budget"]
    budget["anyOf"] = [{"required": [key]} for key in (*budget.pop("required"), "max_regression")]
    budgets = schema["properties"]["budgets"]
    one = budgets["items"]
    schema["properties"]["budgets"] = {"anyOf": [budgets, one]}
    return json.loads(json.dumps(schema))  # type: ignore[no-any-return]
