"""A plan for people and programs: what each step needs, and what does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from flows import planned
from pipeline.run import resources
from pipeline.stage.resources import Span
from tests.project import Project, Said


def test_bytes_and_times_are_told_in_units_that_people_read():
    spans = {
        None: "unknown",
        Span(1_234_000_000, 1_240_000_000): "1.2 GB",
        Span(200_000_000, 1_340_000_000): "0.2–1.3 GB",
        Span(20_000_000, 1_040_000_000): "≤ 1.0 GB",
        Span(0, 5_250_000): "≤ 5.2 MB",
        Span(50_000, 250_000): "0.1–0.2 MB",
    }
    assert [planned.span(found) for found in spans] == list(spans.values())
    times = {
        None: "unknown",
        0.2: "0 s",
        99.4: "99 s",
        100: "2 min",
        5990: "100 min",
        9000: "2.5 h",
    }
    assert [planned.duration(seconds) for seconds in times] == list(times.values())


def test_plan_shows_what_is_needed_and_tells_it_as_json(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    recipe = project.recipe("finetune: {epochs: 1}", "quickstages:Judge")
    shown = rarefy("plan", recipe).out
    assert shown.splitlines()[0].split() == (
        ["step", "stage", "output", "disk", "memory", "time", "artifact"]
    )
    finetune = next(line for line in shown.splitlines() if line.startswith("finetune"))
    assert finetune.rstrip().endswith("unknown")
    assert " MB " in finetune
    steps = json.loads(rarefy("plan", recipe, "--json").out)["steps"]
    needs = {step["id"]: step["needs"] for step in steps}
    least, most = needs["finetune"]["disk_bytes"]
    assert 0 < least < most
    assert needs["finetune"]["seconds"] is None
    assert needs["judge"]["disk_bytes"] is None


def test_after_a_run_there_is_a_time_and_nothing_is_needed_of_what_is_cached(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    assert rarefy("run", project.recipe("quickstages:Head"), "--engine", "inline").code == 0
    recipe = project.recipe("quickstages:Head: {scale: 2.0}")
    steps = json.loads(rarefy("plan", recipe, "--json").out)["steps"]
    assert steps[0]["needs"] is None
    assert steps[1]["needs"]["seconds"] >= 0
    assert rarefy("plan", recipe).out.splitlines()[2].rstrip().endswith(" s")


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
    shown = rarefy("plan", recipe).out.splitlines()[2].split()
    assert shown[3:5] == ["to", "score"]
    assert shown[6] == "s"
    step = json.loads(rarefy("plan", recipe, "--json").out)["steps"][1]
    assert step["cached"]
    assert step["needs"]["seconds"] >= 0
    assert step["needs"]["disk_bytes"] is None


@pytest.mark.parametrize("command", [["plan"], ["run", "--engine", "inline"]])
def test_what_cannot_fit_is_refused_before_anything_runs(
    project: Project, rarefy: Callable[..., Said], monkeypatch, command: list[str]
) -> None:
    monkeypatch.setattr(resources, "free_disk", lambda _: 10_000)
    said = rarefy(*command, project.recipe("finetune: {epochs: 1}"))
    assert said.code == 5
    assert said.err.startswith("rarefy: model: needs at least ")
    assert "only 10 kB are free" in " ".join(said.err.split())
    assert not list((project.home / "store" / "artifacts" / "sha256").iterdir())
