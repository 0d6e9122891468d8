from __future__ import annotations

from pathlib import Path

from pipeline.recipe import recipe as recipes
from pipeline.sweep import winner
from pipeline.sweep.sweep_file import Question
from pipeline.terms.vocabulary import NAME
from tests.pipeline.sweep import factory

QUESTION = Question(least="latency", within="1 %")


def test_the_written_recipe_reads_the_same_files_from_another_folder(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "models" / "encoder").mkdir(parents=True)
    for split in ("train", "eval"):
        (tmp_path / "rows" / f"{split}.jsonl").touch()
    sweep, out = factory.load(tmp_path), tmp_path / "out" / "deep"
    out.mkdir(parents=True)
    chosen = factory.branch("a", 0.9, 1.0, 1, values={"distill.layers": 1, "slim": "off"})

    made = recipes.load(winner.write(sweep, QUESTION, chosen, out))

    assert made.recipe.name == "many-fastest-within-1-points"
    assert [step.id for step in made.steps][1:3] == ["distill", "quantize"]
    assert (out / made.recipe.data.train).resolve() == (tmp_path / "rows/train.jsonl").resolve()
    assert (out / made.recipe.model).resolve() == (tmp_path / "models/encoder").resolve()
    assert made.recipe.task == "text-classification"


def test_a_long_name_is_cut_to_a_valid_one(tmp_path: Path) -> None:
    sweep = factory.load(tmp_path, name="n" * 60)

    assert NAME.fullmatch(winner.name(sweep, QUESTION))
