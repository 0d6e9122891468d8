"""A recipe or sweep that uses what was removed or renamed learns in one line what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.recipe.removed import REMOVED, RENAMED
from rarefy.pipeline.stage import discovery
from rarefy.pipeline.sweep.questions import Question
from rarefy.pipeline.terms.errors import RecipeError
from tests.pipeline.sweep import factory

RECIPE = """\
name: old
model: model
data: {{train: train.jsonl, eval: eval.jsonl}}
stages:
  - {entry}
"""
IN_SWEEPS = "ask"
OF_RECIPES = sorted(name for name in {**REMOVED, **RENAMED} if not name.startswith(IN_SWEEPS))
OF_SWEEPS = sorted(name for name in RENAMED if name.startswith(IN_SWEEPS))


def error(name: str, folder: Path) -> str:
    """Return the error of a recipe with a stage, or with a parameter of one."""
    stage, _, parameter = name.partition(".")
    entry = f"{stage}: {{{parameter}: 1}}" if parameter else stage
    path = folder / "old.yaml"
    path.write_text(RECIPE.format(entry=entry))
    with pytest.raises(RecipeError) as raised:
        recipes.load(path)
    return str(raised.value).removeprefix(f"{path}:5: stages[0].")


def test_options_that_lost_are_remembered() -> None:
    lost = {
        "distill.activation",
        "distill.hidden_weight",
        "finetune.label_smoothing",
        "quantize.percentile",
    }
    assert lost <= REMOVED.keys()


@pytest.mark.parametrize("name", sorted(REMOVED))
def test_a_removed_stage_or_parameter_names_what_to_use_instead(name: str, tmp_path: Path) -> None:
    said = error(name, tmp_path)
    assert said == f"{name}: {name!r} was removed before 0.1.0: {REMOVED[name]}"


@pytest.mark.parametrize("name", sorted(RENAMED.keys() - OF_SWEEPS))
def test_a_renamed_stage_or_parameter_names_the_new_one(name: str, tmp_path: Path) -> None:
    said = error(name, tmp_path)
    assert said == f"{name}: {name!r} was renamed before 0.1.0: write {RENAMED[name]}"


@pytest.mark.parametrize("name", OF_SWEEPS)
def test_a_renamed_key_of_a_sweep_names_the_new_one(name: str, tmp_path: Path) -> None:
    part, _, key = name.partition(".")
    with pytest.raises(RecipeError) as raised:
        factory.load(tmp_path, **{part: [{key: "accuracy"}]})
    said = f"{part}[0].{key}: {name!r} was renamed before 0.1.0: write {RENAMED[name]}"
    assert re.fullmatch(rf"\S+sweep\.yaml:\d+: {re.escape(said)}", str(raised.value))


@pytest.mark.parametrize("name", OF_RECIPES)
def test_nothing_removed_or_renamed_is_still_there(name: str) -> None:
    stage, _, parameter = name.partition(".")
    if parameter:
        assert parameter not in discovery.find(stage).model_fields
    else:
        assert stage not in discovery.installed()


@pytest.mark.parametrize("name", sorted(RENAMED))
def test_every_new_name_is_there(name: str) -> None:
    stage, _, parameter = name.partition(".")
    [new] = re.findall(r"^'(\w+)'", RENAMED[name])
    if not parameter:
        assert new in discovery.installed()
        return
    kind = Question if stage == IN_SWEEPS else discovery.find(stage)
    assert new in kind.model_fields
