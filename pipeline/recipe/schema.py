"""The JSON schema of recipes, for editors."""

from __future__ import annotations

import json
from typing import Any

from rarefy.pipeline.recipe.recipe import SEEDS, Recipe
from rarefy.pipeline.stage import discovery
from rarefy.pipeline.terms.errors import RecipeError


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe, with the parameters of every stage that can be loaded."""
    schema = Recipe.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "rarefy recipe"
    schema["properties"]["stages"]["items"] = _stages(schema["$defs"])
    # Short forms of ``Recipe._listed``: a budget without a list, a regression without a metric.
    budget = schema["$defs"]["Budget"]
    required = [*budget.pop("required"), "max_regression"]
    budget["anyOf"] = [{"required": [key]} for key in required]
    budgets = schema["properties"]["budgets"]
    schema["properties"]["budgets"] = {"anyOf": [budgets, budgets["items"]]}
    return json.loads(json.dumps(schema))  # type: ignore[no-any-return]


def _stages(definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an entry of ``stages``; ``definitions`` gets those that it refers to."""
    seed = {"type": "integer", "minimum": 0, "exclusiveMaximum": SEEDS}
    text = {"type": "string"}
    properties: dict[str, Any] = {"as": text, "from": text, "seed": seed}
    for name in sorted(discovery.installed()):
        try:
            stage = discovery.find(name)
        except RecipeError:
            continue  # a broken plug-in is reported when a recipe uses it
        parameters = stage.model_json_schema()
        definitions.update(parameters.pop("$defs", {}))
        properties[name] = {"anyOf": [parameters, {"type": "null"}]}
    entry = {"type": "object", "properties": properties, "minProperties": 1}
    return {"anyOf": [text, entry]}
