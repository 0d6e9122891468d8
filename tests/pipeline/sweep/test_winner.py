from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.sweep import winner
from rarefy.pipeline.sweep.questions import Question
from rarefy.pipeline.terms.errors import RecipeError
from tests.pipeline.sweep import factory

QUESTION = Question.model_validate({"minimize": "latency", "within": "1 point"})


def test_the_recipe_is_written_beside_its_origin_and_means_the_same(tmp_path: Path) -> None:
    sweep = factory.load(tmp_path)
    chosen = factory.branch("a", 0.9, 1.0, 1, values={"distill.keep_layers": 1, "slim": "off"})

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


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="who may write everywhere is not stopped"
)
def test_a_folder_that_cannot_be_written_is_said_before_anything_runs(tmp_path: Path) -> None:
    sweep = factory.load(tmp_path)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(RecipeError, match="cannot be written"):
            winner.check(sweep)
    finally:
        tmp_path.chmod(0o700)
