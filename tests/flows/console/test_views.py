"""A plan for people and programs: what each step took last time, and what does not fit."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from rich.console import Console

from rarefy.flows.console import views
from rarefy.flows.console.options import show_table
from rarefy.pipeline.data import corpus
from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.run import estimate
from rarefy.pipeline.run.plan.plan import Plan
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.verdict.history import FILE, History
from tests.pipeline.report.verdicts import finished
from tests.project import Project, Said


def test_before_the_first_run_times_are_estimated(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    recipe = project.recipe("finetune: {epochs: 1}", "quickstages:Judge")
    lines = rarefy("plan", recipe).out.splitlines()
    assert lines[0].split() == ["step", "stage", "output", "time", "memory", "last", "run"]
    finetune = next(line for line in lines if line.startswith("finetune"))
    assert re.search(r"to run +about 5 s", finetune)
    judge = next(line for line in lines if line.startswith("judge"))
    assert "unknown" in judge, "it is a stage of the recipe's own"
    total = next(line for line in lines if line.startswith("time:"))
    assert total.startswith("time: about 5 s without judge; estimated by ")
    planned = json.loads(rarefy("plan", recipe, "--json").out)
    assert [step["last_run"] for step in planned["steps"]] == [None, None, None]
    estimates = [step["estimated_seconds"] for step in planned["steps"]]
    assert estimates[2] is None
    assert planned["seconds"] == sum(estimates[:2])


def test_a_plan_of_cached_steps_says_no_time(
    trained_project: Project, rarefy: Callable[..., Said]
) -> None:
    recipe = trained_project.recipe("quickstages:Head")
    assert "time:" not in rarefy("plan", recipe).out
    assert json.loads(rarefy("plan", recipe, "--json").out)["seconds"] == 0


def test_a_step_that_is_not_cached_has_what_its_last_run_took(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    assert rarefy("run", project.recipe("quickstages:Head"), "--engine", "inline").code == 0
    recipe = project.recipe("quickstages:Head: {scale: 2.0}")
    model, head = json.loads(rarefy("plan", recipe, "--json").out)["steps"]
    assert (model["state"], model["last_run"]) == ("cached", None)
    assert (head["state"], head["last_run"]["of"]) == ("to run", "this step, other parameters")
    assert head["last_run"]["seconds"] >= 0
    assert head["last_run"]["memory_bytes"] > 0
    shown = rarefy("plan", recipe).out.splitlines()[2]
    assert re.search(r"to run +[\d.]+ s +[\d.]+ [MG]B +this step, other parameters", shown)


def test_it_is_said_why_a_step_runs_again(
    project: Project, rarefy: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = project.recipe("quickstages:Head")
    assert "runs again" not in rarefy("plan", recipe).out
    assert rarefy("run", recipe, "--engine", "inline").code == 0
    assert "runs again" not in rarefy("plan", recipe).out
    recipe = project.recipe("quickstages:Head: {scale: 2.0}")
    note = "note: head runs again, as this has changed: parameters.scale: 1.0 → 2.0\n"
    assert note in rarefy("plan", recipe).out
    with (project.folder / "train.jsonl").open("a") as rows:
        rows.write("\n")
    head = json.loads(rarefy("plan", recipe, "--json").out)["steps"][1]
    assert "parameters.scale: 1.0 → 2.0" in head["changes"]
    assert any(change.startswith("data.train") for change in head["changes"])


DISTURBED = """\
import dataclasses
from typing import ClassVar

from quickstages import Head


class Disturbed(Head):
    name: ClassVar[str] = "disturbed"
    busy: bool = True

    def run(self, context, model):
        return dataclasses.replace(super().run(context, model), lasts=not self.busy)
"""


@pytest.mark.slow
def test_it_is_said_that_a_disturbed_measurement_is_not_reused(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    (project.folder / "disturbed.py").write_text(DISTURBED)
    recipe = project.recipe("disturbed:Disturbed")
    assert rarefy("run", recipe, "--engine", "inline").code == 0
    reason = "its last result was not kept, like those of a disturbed machine"
    note = f"note: disturbed runs again, as {reason}\n"
    assert note in rarefy("plan", recipe).out
    steady = project.recipe("disturbed:Disturbed: {busy: false}")
    assert rarefy("run", steady, "--engine", "inline").code == 0
    assert "runs again" not in rarefy("plan", steady).out


def test_a_cached_model_on_another_eval_split_is_to_score(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    recipe = project.recipe("quickstages:Head")
    assert rarefy("run", recipe, "--engine", "inline").code == 0
    assert rarefy("plan", recipe).out.splitlines()[2].split()[:4] == (
        ["head", "head", "checkpoint", "cached"]
    )
    with (project.folder / "eval.jsonl").open("a") as rows:
        rows.write("\n")
    assert rarefy("plan", recipe).out.splitlines()[2].split()[3:5] == ["to", "score"]
    step = json.loads(rarefy("plan", recipe, "--json").out)["steps"][1]
    assert step["cached"]
    assert step["state"] == "to score"


@pytest.mark.parametrize("command", [["plan"], ["run", "--engine", "inline"]])
def test_what_cannot_fit_is_refused_before_anything_runs(
    project: Project, rarefy: Callable[..., Said], monkeypatch, command: list[str]
) -> None:
    usage = SimpleNamespace(total=2**40, free=10_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    result = rarefy(*command, project.recipe("finetune: {epochs: 1}"))
    assert result.code == 5
    assert result.err.startswith("rarefy: model: writes at least ")
    assert "only 10 kB are free" in " ".join(result.err.split())
    assert not list((project.home / "store" / "artifacts" / "sha256").iterdir())


def test_a_plan_says_how_many_candidates_these_rows_have_judged(trained_project: Project) -> None:
    budgets = "budgets:\n  - {metric: accuracy, min: 50 %}\n"
    recipe = trained_project.recipe("quickstages:Head", "quickstages:Judge", budgets=budgets)
    home = Home(trained_project.home)
    plan = Plan(recipes.load(recipe), home.store())
    before = views.PlanView.from_plan(plan, home).candidates
    judged = finished(0)
    judged.measurements.data = plan.sources["eval"].sha256
    assert History(home.path / FILE).add(judged)
    view = views.PlanView.from_plan(plan, home)
    assert view.as_json()["candidates"] == before + 1
    assert any("been judged on these rows; the more" in note for note in view.notes)


def test_candidates_for_a_search_are_counted_by_its_rows_and_corpus(project: Project) -> None:
    for name in ("train", "eval"):
        (project.folder / f"{name}.jsonl").write_text('{"a": "warm", "b": "x"}\n')
    (project.folder / "corpus.jsonl").write_text('{"id": "x", "text": "a warm film"}\n')
    end = "task: sentence-embeddings\nbudgets: [{metric: ndcg_10, min: 50 %}]\n"
    recipe = project.recipe("finetune", "export", "validate", budgets=end)
    data = "eval.jsonl, corpus: corpus.jsonl, text: [a, b], label: null"
    text = recipe.read_text()
    recipe.write_text(text.replace("eval.jsonl", data))
    home = Home(project.home)
    plan = Plan(recipes.load(recipe), home.store())
    judged = finished(0)
    judged.measurements.data = corpus.digest(plan.sources)
    assert History(home.path / FILE).add(judged)
    assert views.PlanView.from_plan(plan, home).candidates == 1


def test_a_plan_breaks_between_words_alone_at_80_columns(trained_project: Project) -> None:
    recipe = trained_project.recipe("quickstages:Head: {scale: 2.0}", "quickstages:Judge")
    home = Home(trained_project.home)
    view = views.PlanView.from_plan(Plan(recipes.load(recipe), home.store()), home)
    drawn = {}
    for width in (80, 400):
        file = io.StringIO()
        console = Console(file=file, width=width, force_terminal=True, color_system=None)
        show_table(view.table(), console)
        drawn[width] = file.getvalue()
    assert max(map(len, drawn[80].splitlines())) <= 80
    assert sorted(drawn[80].split()) == sorted(drawn[400].split())


def test_a_plan_says_how_throughput_is_measured_if_somebody_asks(
    project: Project, rarefy: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = "targets: [{name: pair, workers: 2, threads: 3}]\n"
    budget = "budgets: [{metric: throughput, min_speedup: 2, against: head}]\n"
    stages = ("quickstages:Head", "export")
    silent = json.loads(
        rarefy("plan", project.recipe(*stages, "validate", budgets=targets), "--json").out
    )
    asking = project.recipe(*stages, "validate", budgets=targets + budget)
    planned = json.loads(rarefy("plan", asking, "--json").out)
    assert (silent["throughput"], len(planned["throughput"])) == ([], 1)
    assert planned["throughput"][0].startswith(
        "throughput on pair: rows a second of candidate and head with 2 workers × 3 threads, in "
        "the fastest of batches of 1, 8, 32, 64; at least about 35 s, and up to 60 s"
    )
    more = planned["steps"][-1]["estimated_seconds"] - silent["steps"][-1]["estimated_seconds"]
    assert more == 6 * 3 + (4 + 5) * 60 / 30
    monkeypatch.setattr(estimate, "seconds_of_row", lambda plan, weights: 0.1 * bool(weights))
    slow = json.loads(rarefy("plan", asking, "--json").out)
    assert slow["throughput"][0].endswith("1, 8, 32, 64; at least about 8 min")
    named = targets.replace("workers: 2", "batch_size: 16")
    alone = project.recipe(*stages, "validate: {throughput: true}", budgets=named)
    shown = rarefy("plan", alone).out
    assert "note: throughput on pair: rows a second of candidate with" in shown
    assert "in batches of 16" in shown
