"""Find the recipe that made a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rarefy.pipeline.release.origin import recipe_of
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.errors import IntegrityError, RecipeError
from tests.project import Project, Said, bundle_digest


def test_validate_of_a_folder_asks_for_the_recipe(
    here: Project, rarefy: Callable[..., Said]
) -> None:
    said = rarefy("validate", bundle_digest(here))
    assert said.code == 2
    assert "--recipe" in said.err


@pytest.mark.parametrize(("more", "tag"), [("", None), ("--baseline production ", "production")])
def test_a_run_of_ci_is_compared_with_the_same_baseline_again(
    here: Project, tmp_path: Path, more: str, tag: str | None
) -> None:
    recipe, run = here.folder / "tiny.yaml", tmp_path / "runs" / "gate"
    run.mkdir(parents=True)
    command = f"rarefy ci {recipe} {more}--out {run}"
    (run / "run.json").write_text(json.dumps({"name": "tiny", "command": command}))
    loaded = recipe_of("gate", None, Home(tmp_path))
    against = {budget.against for budget in loaded.recipe.budgets}
    assert ("production" in against) == (tag is not None)


def test_another_recipe_of_that_path_is_not_taken_for_the_one_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run was started in one project's folder; its user is in another's by now."""
    (tmp_path / "run.json").write_text(json.dumps({"name": "tiny", "command": "rarefy run r.yaml"}))
    for name in ("tiny", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "r.yaml").write_text(
            f"name: {name}\nmodel: encoder\nstages: [export]\n"
            "data: {train: train.jsonl, eval: eval.jsonl}\n"
        )
    monkeypatch.chdir(tmp_path / "tiny")
    assert recipe_of(str(tmp_path), None, Home(tmp_path)).recipe.name == "tiny"
    monkeypatch.chdir(tmp_path / "other")
    told = "r.yaml here is the recipe 'other', not 'tiny', which made this run; name the recipe"
    with pytest.raises(RecipeError, match=told):
        recipe_of(str(tmp_path), None, Home(tmp_path))
    assert recipe_of(str(tmp_path), Path("r.yaml"), Home(tmp_path)).recipe.name == "other"


def test_from_another_folder_the_recipe_of_a_run_has_to_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = "rarefy run examples/demo.yaml"
    (tmp_path / "run.json").write_text(json.dumps({"name": "demo", "command": command}))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    told = (
        ": examples/demo.yaml, the recipe of this run, does not exist here; go to where the "
        "run was started, or name the recipe with --recipe$"
    )
    with pytest.raises(RecipeError, match=told):
        recipe_of(str(tmp_path), None, Home(tmp_path))


def test_a_record_without_the_recipe_s_name_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"command": "rarefy run tiny.yaml"}))
    with pytest.raises(IntegrityError, match="damaged; name the recipe with --recipe"):
        recipe_of(str(tmp_path), None, Home(tmp_path))
