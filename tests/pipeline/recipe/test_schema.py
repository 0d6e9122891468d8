"""The JSON schema of recipes."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from rarefy.pipeline.recipe import schema as recipe_schema


def test_the_schema_knows_every_key_of_a_stage():
    schema = recipe_schema.json_schema()
    entry = schema["properties"]["stages"]["items"]["anyOf"][1]["properties"]
    own = entry["finetune"]["anyOf"][0]
    assert own["additionalProperties"] is False
    assert "learning_rate" in own["properties"]


def test_every_field_of_a_budget_is_described():
    fields = recipe_schema.json_schema()["$defs"]["Budget"]["properties"]
    assert [name for name, field in fields.items() if not field.get("description")] == []


SCHEMA = Path(__file__).parents[3] / "schema" / "recipe.schema.json"


@pytest.mark.parametrize(
    ("budgets", "right"),
    [
        ("{max_regression: 5 %, against: production}", True),
        ("[{metric: size, max: 20 MB}, {max_regression: 5 %, against: production}]", True),
        ("[{metric: accuracy, min: 0.8, level: warn}]", True),
        ("[{max: 20 MB}]", False),
        ("[{metric: size, maxx: 20 MB}]", False),
    ],
)
def test_an_editor_marks_what_the_schema_refuses_and_no_more(budgets: str, right: bool) -> None:
    text = "name: a\nmodel: m\ndata: {train: t.csv, eval: e.csv}\nstages: [export]\nbudgets: "
    checked = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    assert checked.is_valid(yaml.safe_load(text + budgets)) is right
