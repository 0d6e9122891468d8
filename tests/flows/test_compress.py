"""The Prefect flow and the inline engine do the same, and say the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows import compress
from pipeline.recipe import recipe as recipes
from pipeline.terms.errors import ModelError
from tests.flows.runs import PASSES, job
from tests.project import Project


def test_inline_run_judges_and_writes(project: Project) -> None:
    recipe = project.recipe("quickstages:Head", "quickstages:Judge", budgets=PASSES)
    result = compress.run(job(project, recipe), recipes.load(recipe), "inline")
    assert result.outcome.exit_code(strict=True) == 0
    assert [row.id for row in result.outcome.data.ledger] == ["model", "head", "judge"]
    assert Path(result.paths["report"]).stat().st_size > 1000


def test_inline_passes_our_errors_on(project: Project) -> None:
    recipe = project.recipe("quickstages:Head", "quickstages:Break")
    with pytest.raises(ModelError, match=r"^break: the weights are made of cheese$"):
        compress.run(job(project, recipe), recipes.load(recipe), "inline")
