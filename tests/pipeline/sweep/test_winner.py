from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.recipe import recipe as recipes
from pipeline.sweep import winner
from pipeline.sweep.questions import Question
from pipeline.terms.errors import RecipeError
from tests.pipeline.sweep import factory

QUESTION = Question.model_validate({"least": "latency", "within": "1 %"})


def test_the_recipe_is_written_beside_its_origin_and_means_the_same(tmp_path: Path) -> None:
    sweep = factory.load(tmp_path)
    chosen = factory.branch("a", 0.9, 1.0, 1, values={"distill.layers": 1, "slim": "off"})

    winner.write(sweep, QUESTION, chosen, "rarefy run --threads 1 it.yaml")
    made = recipes.load(tmp_path / "many-fastest-within-1-point.yaml")

    assert made.recipe.name == "many-fastest-within-1-point"
    assert [step.id for step in made.steps][2:4] == ["distill", "quantize"]
    assert made.recipe.data == sweep.recipe.recipe.data
    assert "# rarefy run --threads 1 it.yaml" in made.text


def test_a_value_of_several_lines_stays_in_its_comment(tmp_path: Path) -> None:
    sweep = factory.load(tmp_path)
    chosen = factory.branch("a", 0.9, 1.0, 1, values={"model": "a\n- oops: ["})

    winner.write(sweep, QUESTION, chosen, "rarefy run it.yaml")

    assert recipes.load(winner.place(sweep, QUESTION)).recipe.model == "a\n- oops: ["


def test_a_file_that_no_sweep_has_written_is_not_replaced(tmp_path: Path) -> None:
    sweep = factory.load(tmp_path)
    winner.check(sweep)
    first = winner.place(sweep, sweep.file.ask[0])
    first.write_text("name: mine\n")

    with pytest.raises(RecipeError, match="no sweep has written"):
        winner.check(sweep)
    first.write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="no sweep has written"):
        winner.check(sweep)
    first.unlink()
    first.mkdir()
    with pytest.raises(RecipeError, match="no sweep has written"):
        winner.check(sweep)
    first.rmdir()
    winner.write(sweep, sweep.file.ask[0], factory.branch("a", 0.9, 1.0, 1), "rarefy run it.yaml")
    winner.check(sweep)


def test_a_sweep_whose_recipes_would_have_too_long_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"name: .*nnn-fastest"):
        winner.check(factory.load(tmp_path, name="n" * 60))
