"""The recorded outcome of a run."""

from __future__ import annotations

import pytest

from pipeline.run import outcome
from pipeline.terms.errors import RecipeError
from tests.conftest import execute


def test_the_recorded_recipe_names_no_path_of_this_machine(workshop, tmp_path_factory):
    folder, elsewhere = workshop.folder, tmp_path_factory.mktemp("elsewhere")
    rows = (folder / "train.jsonl").read_bytes()
    (elsewhere / "train.jsonl").write_bytes(rows)
    data = {"train": str(elsewhere / "train.jsonl"), "eval": str(folder / "eval.jsonl")}
    run = workshop.open("quick:Head", data=data, model=str(folder / "model"))
    execute(run)
    text = outcome.conclude(run, "rarefy run trial.yaml").data.model_dump_json()
    assert str(folder) not in text
    assert str(elsewhere) not in text
    recipe = outcome.conclude(run, "rarefy run trial.yaml").data.recipe
    assert "train: train.jsonl" in recipe
    assert "eval: eval.jsonl" in recipe
    assert "model: model" in recipe


def test_a_manifest_names_no_path_of_this_machine(workshop):
    """Model, data and a stage's file, given as absolute paths inside the recipe's folder."""
    folder = workshop.folder
    stages = (
        {"quick:Word": {}},
        {"quick:Listen": {"to": "word", "file": str(folder / "quick.py")}},
    )
    data = {name: str(folder / f"{name}.jsonl") for name in ("train", "eval")}
    chain = (*stages, {"quick:Count": {}})
    finished = workshop.run(*chain, model=str(folder / "model"), data=data)
    for step in finished.values():
        assert str(folder) not in step.artifact.manifest.canonical().decode()
    assert finished["model"].artifact.manifest.source.reference == "model"
    assert finished["listen"].artifact.manifest.stage.parameters["file"] == "quick.py"
    assert finished["count"].artifact.manifest.data[0].name == "train.jsonl"


def test_a_report_of_something_else_than_measurements_ends_a_run_without_a_verdict(workshop):
    run = workshop.open("quick:Word")
    execute(run)
    assert outcome.conclude(run, "rarefy run trial.yaml").data.verdict is None


def test_budgets_that_nothing_measured_are_not_passed_over(workshop):
    run = workshop.open("quick:Word", budgets=[{"metric": "size", "max": "1 MB"}])
    execute(run)
    with pytest.raises(RecipeError, match=r"budgets: no stage wrote measurements\.json"):
        outcome.conclude(run, "rarefy run trial.yaml")
