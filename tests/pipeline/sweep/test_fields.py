from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rarefy.pipeline.recipe.recipe import LoadedRecipe
from rarefy.pipeline.sweep import fields
from rarefy.pipeline.sweep import file as sweep_file
from rarefy.pipeline.terms.errors import RecipeError
from tests.pipeline.sweep import factory


def changed(folder: Path, **given: Any) -> LoadedRecipe:
    sweep = factory.load(folder)
    return fields.with_values(sweep.recipe, sweep.values, given)


def test_a_parameter_of_a_step_is_set_by_its_id(tmp_path: Path) -> None:
    made = changed(tmp_path, **{"slim.remove_heads": "50 %", "quantize.mode": "static"})

    assert made.step("slim").stage.model_dump()["remove_heads"] == 0.5
    assert made.step("quantize").stage.model_dump()["mode"] == "static"
    assert made.step("distill").stage.model_dump()["keep_layers"] == 2


def test_a_step_alone_takes_all_its_parameters_or_is_left_out(tmp_path: Path) -> None:
    made = changed(tmp_path, slim="off", distill={"keep_layers": 1, "alpha": 0.5})

    assert [step.id for step in made.steps] == [
        *("finetune", "more", "distill", "quantize", "export", "validate"),
    ]
    assert made.step("distill").stage.model_dump()["alpha"] == 0.5


@pytest.mark.parametrize(
    "given",
    [
        {"quantize.mode": "static", "quantize": {"max_damage": 0.1}},
        {"quantize": {"max_damage": 0.1}, "quantize.mode": "static"},
    ],
)
def test_a_field_varies_within_all_parameters_of_its_step(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    made = changed(tmp_path, **given).step("quantize").stage.model_dump()

    assert (made["mode"], made["max_damage"]) == ("static", 0.1)


@pytest.mark.parametrize("order", [1, -1])
def test_a_field_of_a_step_that_is_left_out_has_no_effect(tmp_path: Path, order: int) -> None:
    given = dict([("quantize.mode", "static"), ("quantize", "off")][::order])

    assert "quantize" not in [step.id for step in changed(tmp_path, **given).steps]


def test_fields_outside_the_stages_are_set_by_their_path(tmp_path: Path) -> None:
    made = changed(tmp_path, **{"data.max_length": 32, "seed": 3, "targets.0.isa": "vnni"})

    assert (made.recipe.data.max_length, made.recipe.seed) == (32, 3)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("distil.layers", "did you mean 'distill'"),
        ("data.eval", "cannot be compared"),
        ("name", "cannot be compared"),
        ("targets.0.threads", "cannot be compared"),
        ("data.train", "name a file of them in data.dev"),
    ],
)
def test_what_would_make_branches_incomparable_is_refused(
    tmp_path: Path, path: str, says: str
) -> None:
    assert says in str(fields.problem(factory.load(tmp_path).recipe, path))


def test_branches_have_the_same_eval_rows(tmp_path: Path) -> None:
    recipe = factory.load(tmp_path).recipe
    data = recipe.recipe.data.model_copy(update={"eval": "20 %", "dev": "dev.jsonl"})
    cut = replace(recipe, recipe=recipe.recipe.model_copy(update={"data": data}))
    said = str(fields.problem(cut, "data.train"))
    assert said.startswith("the eval rows are cut from train")


def test_models_that_are_their_own_truth_cannot_be_compared(tmp_path: Path) -> None:
    recipe = factory.load(tmp_path).recipe
    values = recipe.recipe.model_copy(
        update={"data": recipe.recipe.data.model_copy(update={"label": None})}
    )

    problem = fields.problem(replace(recipe, recipe=values), "model")
    assert "different labels" in str(problem)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"distill.layerz": 1}, "unknown key"),
        ({"distill.keep_layers.deep": 1}, "has no fields"),
    ],
)
def test_values_that_do_not_fit_are_errors(
    tmp_path: Path, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(RecipeError, match=says):
        changed(tmp_path, **given)


def test_steps_that_share_parameters_by_an_alias_vary_apart(tmp_path: Path) -> None:
    path = factory.write(tmp_path, vary={"finetune.epochs": [1, 2]})
    recipe = tmp_path / "base.yaml"
    text = recipe.read_text().replace("finetune: {epochs: 1}", "finetune: &few {epochs: 1}")
    recipe.write_text(text.replace("  - distill", "  - {finetune: *few, as: again}\n  - distill"))
    sweep = sweep_file.load(path)
    made = fields.with_values(sweep.recipe, sweep.values, {"finetune.epochs": 6})
    epochs = [made.step(name).stage.model_dump()["epochs"] for name in ("finetune", "again")]
    assert epochs == [6, 1]


def test_a_step_s_id_may_have_a_dot(tmp_path: Path) -> None:
    path = factory.write(tmp_path, vary={"slim.b.remove_heads": ["25 %", "50 %"]})
    recipe = tmp_path / "base.yaml"
    recipe.write_text(recipe.read_text().replace("as: slim", "as: slim.b"))
    sweep = sweep_file.load(path)
    made = fields.with_values(sweep.recipe, sweep.values, {"slim.b.remove_heads": "50 %"})
    assert made.step("slim.b").stage.model_dump()["remove_heads"] == 0.5
    made = fields.with_values(sweep.recipe, sweep.values, {"slim.b": "off"})
    assert "slim.b" not in made.ids
