"""A job, carried out step by step."""

from __future__ import annotations

from pathlib import Path

from flows import compress
from flows.jobs import words
from pipeline.recipe import recipe as recipes
from tests.flows.runs import PASSES, job
from tests.project import Project


def test_inline_run_judges_and_writes(project: Project) -> None:
    recipe = project.recipe("quickstages:Head", "quickstages:Judge", budgets=PASSES)
    result = compress.run(job(project, recipe), recipes.load(recipe), "inline")
    assert result.outcome.exit_code(strict=True) == 0
    assert [row.id for row in result.outcome.data.ledger] == ["model", "head", "judge"]
    assert Path(result.paths["report"]).stat().st_size > 1000


def test_options_that_are_not_given_are_no_words() -> None:
    given = {"--first": True, "--fresh": False, "--device": "auto", "--threads": 2, "--out": None}
    assert words(given) == ["--first", "--threads", "2"]
