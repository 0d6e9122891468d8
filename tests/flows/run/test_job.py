"""A job, carried out step by step."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from rarefy.flows import start
from rarefy.flows.run.job import Job, folder_name, words
from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.run.logbook import Engine
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.errors import RecipeError
from tests.flows.runs import PASSES, job
from tests.project import Project


def test_inline_run_judges_and_writes(project: Project) -> None:
    recipe = project.recipe("quickstages:Head", "quickstages:Judge", budgets=PASSES)
    result = start.run(job(project, recipe), recipes.load(recipe), "inline")
    assert result.outcome.exit_code(strict=True) == 0
    assert [row.id for row in result.outcome.data.ledger] == ["model", "head", "judge"]
    assert Path(result.paths["report"]).stat().st_size > 1000


@pytest.mark.parametrize("engine", ["inline", "prefect"])
def test_a_place_that_cannot_be_written_is_refused_before_the_first_stage(
    project: Project, engine: Engine
) -> None:
    recipe = project.recipe("quickstages:Head")
    asked = replace(job(project, recipe), out=str(recipe / "out"))
    with pytest.raises(RecipeError, match=r"out: Not a directory; choose another place"):
        start.run(asked, recipes.load(recipe), engine)
    assert Home(project.home).store().digests() == []


@pytest.mark.parametrize(
    ("deployment", "folder"), [(None, "demo"), ("demo", "demo"), ("Demo on CUDA!", "demo-on-cuda")]
)
def test_a_deployment_has_a_folder_of_its_own(deployment: str | None, folder: str) -> None:
    assert folder_name(deployment, "demo") == folder


def test_options_that_are_not_given_are_no_words() -> None:
    given = {"--first": True, "--fresh": False, "--device": "auto", "--threads": 2, "--out": None}
    assert words(given) == ["--first", "--threads", "2"]


def test_a_recorded_job_with_an_option_that_is_gone_is_read(project: Project) -> None:
    """So a run of an earlier version is resumed."""
    recorded = job(project, project.recipe("quickstages:Head"))
    assert Job.from_record(asdict(recorded) | {"stage_timeout": None}) == recorded
