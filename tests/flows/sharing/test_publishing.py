"""A deployed run leaves its report in the shared store, and its artifacts if it passed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rarefy.flows.run import job as jobs
from rarefy.flows.run.job import Job
from rarefy.flows.sharing import publishing
from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.store.remote.artifacts import Remote
from rarefy.pipeline.terms.errors import RecipeError
from tests.flows.runs import PASSES, job
from tests.project import Project

MISSED = PASSES + "  - {metric: size, max: 0.5 kB}\n"


def published(project: Project, url: str, budgets: str) -> None:
    recipe = project.recipe("quickstages:Head", "quickstages:Judge", budgets=budgets)
    loaded, given = recipes.load(recipe), job(project, recipe)
    run = jobs.open_run(Job(**vars(given) | {"store": url}), loaded)
    for identifier in run.plan.loaded.ids:
        jobs.execute(run, identifier)
    publishing.publish(run, jobs.conclude(run, given), url, "runs/tiny/now")


@pytest.mark.parametrize(("budgets", "artifacts"), [(PASSES, 3), (MISSED, 0), ("", 0)])
def test_the_report_goes_always_and_artifacts_only_of_a_pass(
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    budgets: str,
    artifacts: int,
) -> None:
    sent: list[str] = []
    put = Remote.put

    def noted(self: Remote, source: Path, path: str) -> None:
        sent.append(source.name)
        put(self, source, path)

    monkeypatch.setattr(Remote, "put", noted)
    published(project, (tmp_path / "store").as_uri(), budgets)
    report = tmp_path / "store" / "runs" / "tiny" / "now" / "report.html"
    assert report.stat().st_size > 1000
    assert (sent[-1] == "verdict.json") is bool(budgets), "it says that the rest is there"
    assert len(list((tmp_path / "store").glob("artifacts/*/*/manifest.json"))) == artifacts
    assert len(list((tmp_path / "store").glob("fingerprints/*.json"))) == artifacts


def test_a_store_that_cannot_be_written(project: Project) -> None:
    with pytest.raises(RecipeError, match="this remote is read-only"):
        publishing.publish(None, _no_verdict(project), "http://127.0.0.1:9/store", "runs/a/b")  # type: ignore[arg-type]


def _no_verdict(project: Project) -> object:
    recipe = project.recipe("quickstages:Head")
    return jobs.run_inline(job(project, recipe), recipes.load(recipe))


def test_the_address_is_where_the_reader_can_open_it() -> None:
    place = publishing.place_of("tiny", "01a3185c-1234-7890-8abc-0123456789ab")
    assert re.fullmatch(r"runs/tiny/\d{8}-\d{6}-456789ab", place), "not the clock of the id"
    assert publishing.address("s3://models/", "runs/tiny/1") == (
        "s3://models/runs/tiny/1/report.html"
    )
    assert publishing.address("s3://models", "runs/tiny/1", "https://reports/") == (
        "https://reports/tiny/1/report.html"
    )
