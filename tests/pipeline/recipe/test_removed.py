"""A recipe that uses what was removed learns in one line what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.recipe.removed import REMOVED
from rarefy.pipeline.stage import discovery
from rarefy.pipeline.terms.errors import RecipeError

RECIPE = """\
name: old
model: model
data: {{train: train.jsonl, eval: eval.jsonl}}
stages:
  - {entry}
"""


@pytest.mark.parametrize("name", sorted(REMOVED))
def test_a_removed_stage_or_parameter_names_what_to_use_instead(name: str, tmp_path: Path) -> None:
    stage, _, parameter = name.partition(".")
    entry = f"{stage}: {{{parameter}: 1}}" if parameter else stage
    path = tmp_path / "old.yaml"
    path.write_text(RECIPE.format(entry=entry))
    with pytest.raises(RecipeError) as raised:
        recipes.load(path)
    assert str(raised.value).startswith(f"{path}:5: stages[0].{name}: {name!r} was removed")
    assert str(raised.value).endswith(REMOVED[name])


@pytest.mark.parametrize("name", sorted(REMOVED))
def test_nothing_removed_is_still_there(name: str) -> None:
    stage, _, parameter = name.partition(".")
    if parameter:
        assert parameter not in discovery.find(stage).model_fields
    else:
        assert stage not in discovery.installed()
