"""``rarefy run``: from a recipe to a verdict."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from rarefy.pipeline.release.origin import recipe_of
from rarefy.pipeline.store.home import Home
from tests.project import Project, Said


def test_run_inline_prints_only_the_verdict(project: Project, rarefy: Callable[..., Said]) -> None:
    recipe = project.recipe("quickstages:Head")
    out = project.folder / "out"
    said = rarefy("run", recipe, "--engine", "inline", "--out", out)
    assert (said.code, said.out) == (0, "verdict: none (no validate stage)\n")
    assert "head" in said.err
    assert (out / "report.html").is_file()


def test_what_a_stage_prints_is_no_part_of_the_answer(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    (project.folder / "modules" / "loud.py").write_text(
        "from quickstages import Head\n"
        "class Loud(Head):\n"
        "    name = 'loud'\n"
        "    def run(self, context, model):\n"
        "        print('epoch 1')\n"
        "        return super().run(context, model)\n"
    )
    said = rarefy("run", project.recipe("loud:Loud"), "--engine", "inline", "--json")
    assert json.loads(said.out)["exit_code"] == 0
    assert "epoch 1" in said.err


def test_without_budgets_nothing_is_judged(project: Project, rarefy: Callable[..., Said]) -> None:
    recipe = project.recipe("quickstages:Head", "quickstages:Judge")
    said = rarefy("run", recipe, "--engine", "inline")
    assert (said.code, said.out) == (0, "verdict: none (no budgets)\n")


@pytest.mark.slow
def test_a_teacher_that_has_learned_nothing_gives_no_verdict(
    project: Project, rarefy: Callable[..., Said], known_times: None
) -> None:
    """Every share of it is inconclusive, and the run, the ledger and the report say why.

    It is trained on one label and answers it, which is the floor exactly. A teacher of shuffled
    labels is right in 10 to 15 of these 20 rows, depending on how a sum is rounded, and 15 are
    significantly more than half.
    """
    validate = (
        "validate: {processes: 2, seconds: 1, memory: false, fastest_float: false, cold_starts: 0}"
    )
    budgets = (
        "budgets:\n"
        "  - {metric: accuracy, min_retained: 50 %, against: head}\n"
        "  - {metric: parameters, max: 1000000}\n"
    )
    recipe = project.recipe(
        "quickstages:Head: {one_label: true}", "export", validate, budgets=budgets
    )
    said = rarefy("run", recipe, "--engine", "inline", "--strict")
    assert said.code == 4
    assert "warning: head is no better than a trivial baseline: its accuracy of" in said.err
    assert "of the most frequent label" in said.err
    told = json.loads(rarefy("run", recipe, "--engine", "inline", "--json").out)
    assert told["outcome"] == "inconclusive"
    assert [budget["outcome"] for budget in told["budgets"]] == ["inconclusive", "pass"]
    reason = told["budgets"][0]["reason"]
    assert "inconclusive because head is no better than a trivial baseline" in reason
    assert "is no better than a trivial" in next(
        r["note"] for r in told["ledger"] if r["id"] == "head"
    )
    for name in ("report.html", "summary.md"):
        page = (project.home / "runs" / "tiny" / name).read_text()
        assert "head is no better than a trivial" in page


def test_the_command_is_recorded_with_what_the_result_depends_on(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    recipe, where = project.recipe("quickstages:Head"), ("--threads", "1", "--device", "cpu")
    said = rarefy("run", recipe, "--engine", "inline", *where, "--json")
    assert said.code == 0, said.err
    told = json.loads((project.home / "runs" / "tiny" / "run.json").read_text())["command"]
    assert told == f"rarefy run --device cpu --threads 1 {recipe}"
    assert recipe_of("tiny", None, Home(project.home)).path == recipe


def test_a_run_ends_with_what_was_gained_and_how_to_use_it(
    here: Project, rarefy: Callable[..., Said], tmp_path: Path
) -> None:
    """All of it is cached; the original is the checkpoint that a budget names."""
    recipe = here.folder / "tiny.yaml"
    out = tmp_path / "out"
    said = rarefy("run", recipe, "--engine", "inline", "--out", out)
    assert said.code == 0, said.err
    lines = said.err.splitlines()
    head = next(at for at, line in enumerate(lines) if line.split() == HEAD)
    names = [line.split()[0] for line in lines[head + 1 : head + 4]]
    assert names == ["accuracy", "latency", "size"]
    assert lines[head + 4] == "original: head in fp32 on ONNX Runtime; batch 1, 1 thread"
    assert [line.split()[0] for line in lines[-3:]] == ["report", "bundle", "next:"]
    assert lines[-1].endswith(f'rarefy predict {out / "bundle"} "…"')
    words = shlex.split(lines[-1])[2:]
    assert rarefy(*words).code == 0


HEAD = ["original", "compressed", "change"]
