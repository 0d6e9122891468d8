"""Find the recipe that made a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.release.origin import recipe_of
from pipeline.store.home import Home
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
    (run / "run.json").write_text(json.dumps({"command": command}))
    loaded = recipe_of("gate", None, Home(tmp_path))
    against = {budget.against for budget in loaded.recipe.budgets}
    assert ("production" in against) == (tag is not None)
