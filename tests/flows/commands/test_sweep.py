"""``rarefy sweep``: from a sweep's file to answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rarefy.flows.commands.sweep import sweep
from rarefy.flows.console.options import as_given
from rarefy.flows.sweep import branches_on
from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.sweep import file as sweep_file
from rarefy.pipeline.sweep import winner
from rarefy.pipeline.sweep.branch import Branch, Folder
from tests.flows import sweeps
from tests.project import Project, Said

BROKEN = ("quickstages:Head", "quickstages:Break", "export")
HERE = ("--on", "inline", "--threads", "1")
ASK = "ask: [{minimize: latency, within: 50 points}, {maximize: accuracy, under: {size: 1 kB}}]"


@pytest.mark.slow
def test_a_sweep_answers_writes_recipes_and_is_not_done_twice(
    project: Project, rarefy: Callable[..., Said], known_times: None
) -> None:
    path = sweeps.write(project, "head.note: [a, b]", ASK)
    said = rarefy("sweep", path, *HERE, "--json")
    told = json.loads(said.out)
    assert (said.code, told["exit_code"]) == (4, 4), "nothing is under 1 kB"
    assert told["command"] == f"rarefy sweep {path} --on inline --threads 1"
    assert [branch["state"] for branch in told["branches"]] == ["done", "done"]
    fastest, impossible = told["answers"]
    assert (impossible["branch"], impossible["recipe"]) == (None, None)
    assert fastest["outcome"] == "pass"
    assert fastest["accuracy"] is not None
    out = project.home / "sweeps" / "trial"
    assert Path(told["page"]).read_text().startswith("<!")
    assert (out / fastest["report"]).is_file()

    written = out / fastest["recipe"]
    assert recipes.load(written).recipe.name == "trial-fastest-within-50-points"
    assert rarefy("plan", written).code == 0, "its paths start where it lies"
    measured = rarefy("validate", out / "runs" / fastest["name"])
    assert measured.code == 0, measured.err

    again = rarefy("sweep", path, *HERE)
    assert again.code == 4
    assert "note-a  " not in again.err, "no branch ends again"
    assert "timing" not in again.err
    assert "fastest within 50 points" in again.out


def test_a_dry_run_says_how_much_there_is_and_makes_no_folder(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    path = sweeps.write(project, "export.samples: [dev, none]")
    said = rarefy("sweep", path, "--dry-run", "--workers", "1", "--threads", "1")
    assert said.code == 0
    assert said.out.splitlines() == [
        "samples-dev: waiting",
        "samples-none: waiting",
        "2 branches, 2 to run, 0 more trials",
    ]
    told = json.loads(rarefy("sweep", path, "--dry-run", "--json").out)
    assert (told["branches"], told["waiting"]) == (2, 2)
    assert not (project.home / "sweeps").exists()


def test_a_dry_run_says_which_values_do_not_go_together(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    vary = "{quantize.mode: [dynamic, search], quantize.weights: [int8, int4]}"
    stages = ("quickstages:Head", "quantize", "export", sweeps.VALIDATE)
    path = sweeps.write(project, vary, stages=stages)
    said = rarefy("sweep", path, "--dry-run")
    assert said.code == 0, said.err
    (line,) = [line for line in said.out.splitlines() if "'mode: search' chooses" in line]
    assert "'mode: search' chooses among plans in int8" in line
    (failed,) = json.loads(rarefy("sweep", path, "--dry-run", "--json").out)["reasons"].items()
    assert line == f"{failed[0]}: {failed[1]}"


def test_a_missing_extra_is_exit_code_5_before_anything_starts(
    project: Project, rarefy: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(branches_on, "find_spec", lambda _: None)
    said = rarefy("sweep", sweeps.write(project), "--on", "dask")
    assert said.code == 5
    (line,) = said.err.splitlines()
    needed = "rarefy: a sweep on Dask needs prefect-dask: pip install 'prefect-dask>="
    assert line.startswith(needed)
    assert not project.home.exists()


def test_a_search_without_optuna_is_exit_code_5(
    project: Project, rarefy: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    path = sweeps.write(project, "head.note: [a, b]", "search: {trials: 2}")
    said = rarefy("sweep", path, *HERE)
    assert said.code == 5
    assert said.err.startswith("rarefy: a search needs optuna: pip install 'optuna>=")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--dask", "a:1", "--ray", "b:2"), "contradict"),
        (("--on", "ray", "--dask", "a:1"), "contradict"),
    ],
)
def test_addresses_that_contradict_are_wrong_usage(
    project: Project, rarefy: Callable[..., Said], options: tuple[str, ...], says: str
) -> None:
    said = rarefy("sweep", sweeps.write(project), *options)
    assert said.code == 2
    assert says in said.err


def test_a_wrong_file_is_named_with_its_line(project: Project, rarefy: Callable[..., Said]) -> None:
    path = sweeps.write(project, "hed.scale: [1, 2]")
    said = rarefy("sweep", path)
    assert said.code == 2
    assert f"rarefy: {path}:4: vary.hed.scale" in said.err
    assert rarefy("sweep", project.folder / "nowhere.yaml").code == 2


def test_a_recipe_that_no_sweep_has_written_is_not_replaced(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    path = sweeps.write(project)
    mine = winner.place(sweep_file.load(path), sweep_file.load(path).file.ask[0])
    mine.write_text("name: mine\n")
    said = rarefy("sweep", path, *HERE)
    assert said.code == 2
    assert "no sweep has written" in said.err
    assert mine.read_text() == "name: mine\n"


def test_the_folder_of_another_sweep_is_refused(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    job = sweeps.job(project, sweeps.write(project), out=project.folder / "out").opened(None)
    Folder(job.out).write(Branch(name="note-a", values={"head.note": "a"}))
    path = sweeps.write(project, "head.note: [c, d]")
    said = rarefy("sweep", path, "--out", project.folder / "out", "--on", "inline")
    assert said.code == 2
    assert "began with sweep file" in said.err


def test_one_sweep_at_a_time_has_a_folder(project: Project, rarefy: Callable[..., Said]) -> None:
    path = sweeps.write(project)
    with sweeps.job(project, path).held():
        said = rarefy("sweep", path, *HERE)
    assert said.code == 2
    folder = project.home / "sweeps" / "trial"
    assert said.err.startswith(f"rarefy: {folder}: this sweep is already running")
    assert said.err.count("\n") == 1


def test_a_dry_run_refuses_what_the_command_would(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    path = sweeps.write(project)
    job = sweeps.job(project, path).opened(None)
    Folder(job.out).write(Branch(name="note-a", values={"head.note": "a"}))
    assert rarefy("sweep", path, "--dry-run", *HERE).code == 0
    said = rarefy("sweep", path, "--dry-run", "--threads", "7")
    assert (said.code, "began with threads 1" in said.err) == (2, True)


def test_the_command_is_recorded_with_its_options(project: Project) -> None:
    path = sweeps.write(project)
    given = ["--out", "a b", "--workers", "2", "--first", "--home", "h", "--json", str(path)]
    with sweep.make_context("sweep", given):
        told = as_given("threads", "as_json")
    assert told == f"rarefy sweep {path} --out 'a b' --workers 2 --first --home h"


def test_if_all_branches_fail_the_exit_code_is_4(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    path = sweeps.write(project, "seed: [0, 1]", stages=BROKEN, budgets="")
    said = rarefy("sweep", path, *HERE)
    assert said.code == 4
    assert "seed-0" in said.err
    assert "failed   break: the weights are made of cheese" in said.err
