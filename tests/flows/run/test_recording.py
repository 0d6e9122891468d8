"""A run is shown and recorded at once, also where nobody watches."""

from __future__ import annotations

import io
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from rarefy.flows import start
from rarefy.flows.console.display import Display
from rarefy.flows.run.recording import Recorded
from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.run.logbook import Logbook
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.errors import ModelError
from tests.flows.runs import PASSES, job
from tests.pipeline.report.factory import report_data
from tests.project import Project


@pytest.mark.parametrize("colours", ["", "1"])
def test_the_log_has_what_the_display_shows(
    project: Project, monkeypatch: pytest.MonkeyPatch, colours: str
) -> None:
    monkeypatch.setenv("FORCE_COLOR", colours)
    recipe = project.recipe("quickstages:Head", "quickstages:Judge", budgets=PASSES)
    seen = io.StringIO()
    with Display(Console(file=seen, width=160, force_terminal=False)) as display:
        start.run(job(project, recipe), recipes.load(recipe), "inline", display)
    book = Logbook(Home(project.home))
    (entry,) = book.entries()
    log = [line[21:] for line in book.log(entry.id).read_text().splitlines()]
    assert log[0] == "rarefy run tiny.yaml"
    for line in seen.getvalue().splitlines():
        assert line.rstrip() in [each.rstrip() for each in log]
    assert log[-1] == "verdict: pass"


def test_a_run_without_a_display_is_recorded(project: Project) -> None:
    recipe = project.recipe("quickstages:Head", "quickstages:Break")
    with pytest.raises(ModelError):
        start.run(job(project, recipe), recipes.load(recipe), "inline")
    (entry,) = Logbook(Home(project.home)).entries()
    assert (entry.state, entry.message) == ("error", "break: the weights are made of cheese")
    assert [step.id for step in entry.steps] == ["model", "head"]


def test_a_verdict_is_recorded_as_it_is() -> None:
    """Its reasons name what users have named, which may look like rich's markup."""
    data = report_data()
    assert data.verdict is not None
    budget = data.verdict.budgets[0].model_copy(update={"reason": "worse on [/b]"})
    data.verdict = data.verdict.model_copy(update={"budgets": [budget]})
    said: list[str] = []
    page: Any = SimpleNamespace(say=said.append, update=lambda **_: None)
    result: Any = SimpleNamespace(outcome=SimpleNamespace(data=data), unrecorded=None)
    Recorded(page, None).ended(result)
    assert "worse on [/b]" in "".join(said)


def test_paths_are_kept_for_another_folder(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = project.recipe("quickstages:Head", "quickstages:Judge")
    monkeypatch.chdir(project.folder)
    given = job(project, Path(os.path.relpath(recipe)))
    start.run(given, recipes.load(recipe), "inline")
    (entry,) = Logbook(Home(project.home)).entries()
    assert entry.job["recipe"] == str(recipe)
    assert entry.state == "unjudged"
