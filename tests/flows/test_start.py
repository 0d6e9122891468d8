"""The Prefect flow and the inline engine give the same results and messages."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from unittest.mock import MagicMock

import pytest

from rarefy.flows import start
from rarefy.flows.server import prefect_settings
from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.terms.errors import ModelError, ProviderError, RecipeError
from tests.flows.runs import PASSES, job
from tests.project import Project


@pytest.fixture
def project(trained_project: Project) -> Project:
    """A project whose model is in the store, trained: no process has to load PyTorch for it."""
    return trained_project


def test_inline_passes_our_errors_on(project: Project) -> None:
    recipe = project.recipe("quickstages:Head", "quickstages:Break")
    with pytest.raises(ModelError, match=r"^break: the weights are made of cheese$"):
        start.run(job(project, recipe), recipes.load(recipe), "inline")


def test_what_a_plan_refuses_is_said_before_prefect_starts(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_settings, "prepare", lambda *_given: pytest.fail("Prefect started"))
    budgets = "budgets: {metric: accuracy, max_drop: 1 point, against: production}\n"
    recipe = project.recipe("quickstages:Head", "quickstages:Judge", budgets=budgets)
    with pytest.raises(RecipeError, match="no tag in"):
        start.run(job(project, recipe), recipes.load(recipe), "prefect")


def test_a_run_with_nothing_to_compute_does_not_start_prefect(
    project: Project, monkeypatch: pytest.MonkeyPatch, own_environment: None
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(prefect_settings, "prepare", lambda *_given: pytest.fail("Prefect started"))
    recipe = project.recipe("quickstages:Head", "quickstages:Judge", budgets=PASSES)
    start.run(job(project, recipe), recipes.load(recipe), "inline")
    again = start.run(job(project, recipe), recipes.load(recipe), "prefect")
    assert [row.cached for row in again.outcome.data.ledger] == [True, True, True]
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with pytest.raises(pytest.fail.Exception, match="Prefect started"):  # people look for it there
        start.run(job(project, recipe), recipes.load(recipe), "prefect")


def test_a_server_that_does_not_answer_is_said_with_what_to_do(
    project: Project, monkeypatch: pytest.MonkeyPatch, own_environment: None
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    recipe = project.recipe("quickstages:Head")
    with pytest.raises(ProviderError, match="does not respond") as caught:
        start.run(job(project, recipe), recipes.load(recipe), "prefect")
    last = str(caught.value).splitlines()[-1]
    assert last == "  rarefy run tiny.yaml, or unset PREFECT_API_URL, or choose the engine 'inline'"


@pytest.mark.slow
def test_an_embedded_server_that_does_not_start_in_time_is_one_line(project: Project) -> None:
    recipe = project.recipe("quickstages:Head", "quickstages:Judge")
    command = [sys.executable, "-m", "rarefy", "run", recipe, "--home", project.home]
    environment = os.environ | {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 5, done.stderr
    (said,) = [line for line in done.stderr.splitlines() if "did not start in time" in line]
    assert said.endswith("or choose the engine 'inline', which needs none")


def test_a_run_in_a_thread_leaves_the_output_of_the_process_alone(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two that overlap, the second would give back what the first had put there."""
    seen = []
    monkeypatch.setattr(start.jobs, "run_inline", lambda *_given: seen.append(sys.stdout))
    monkeypatch.setattr(start.recording, "recorded", lambda *_given: nullcontext(MagicMock()))
    recipe, before = project.recipe("quickstages:Head"), sys.stdout

    def run() -> None:
        start.run(job(project, recipe), recipes.load(recipe), "inline")

    with ThreadPoolExecutor(1) as pool:
        pool.submit(run).result()
    run()
    assert seen == [before, sys.stderr]
    assert sys.stdout is before
