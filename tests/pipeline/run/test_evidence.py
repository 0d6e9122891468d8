"""Too few eval rows for a margin: a warning before the run, inconclusive after, never a pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.project import Project, Said

TWINS = '''
from typing import ClassVar

from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.stage import Draft, Stage


class Twins(Stage):
    """Measure a candidate that answers exactly like its reference, right nine times out of ten."""

    name: ClassVar[str] = "twins"
    produces: ClassVar = Kind.REPORT
    reads: ClassVar = frozenset({"eval"})

    def run(self, context, model):
        from rarefy.pipeline.measure.predictions import files
        from rarefy.pipeline.measure.measurements import Measurements, ModelMeasurement

        truth = context.split("eval").labels
        right = [row % 10 != 0 for row in range(len(truth))]
        answers = [[0.1, 0.9] if (y == 1) == ok else [0.9, 0.1] for y, ok in zip(truth, right)]
        same = ModelMeasurement(digest=model.digest, size=1000, answers=answers)
        measured = Measurements(
            machine={}, task=context.task.name, labels=list(context.task.labels), truth=truth,
            models={"candidate": same, "head": same}, latency={},
        )
        files.save(measured, context.output)
        return Draft()
'''


def budgets(margin: str) -> str:
    return f"budgets:\n  - {{metric: accuracy, max_drop: {margin}, against: head}}\n"


@pytest.fixture
def project(trained_project: Project) -> Project:
    """The head is trained already: no test here is about it."""
    return trained_project


@pytest.fixture
def twins(project: Project) -> Callable[[str], Path]:
    (project.folder / "modules" / "twins.py").write_text(TWINS)
    return lambda margin: project.recipe(
        "quickstages:Head", "twins:Twins", budgets=budgets(margin), name="twins"
    )


def test_too_few_rows_are_said_first_and_never_pass(
    project: Project, rarefy: Callable[..., Said], twins: Callable[[str], Path]
) -> None:
    recipe = twins("3 points")
    planned = rarefy("plan", recipe)
    assert planned.code == 0
    assert (
        "needs about 621 eval rows (assuming that 8% of the predictions differ); the split has 20"
        in planned.out
    )

    said = rarefy("run", recipe, "--engine", "inline", "--strict")
    assert (said.code, said.out.splitlines()[-1]) == (4, "verdict: inconclusive")
    assert said.err.startswith("note: accuracy max_drop against head: "), "before the first stage"
    assert "expect 'inconclusive'" in said.err.splitlines()[0]
    assert "about 119 eval rows are needed, but the split has only 20" in " ".join(said.err.split())

    told = json.loads(rarefy("plan", recipe, "--json").out)["evidence"][0]
    assert (told["needed"], told["rows"], told["enough"]) == (119, 20, False)
    assert "(0% of the predictions differed in the last run)" in told["text"]


def test_rows_enough_are_not_warned_of(
    project: Project, rarefy: Callable[..., Said], twins: Callable[[str], Path]
) -> None:
    said = rarefy("run", twins("40 points"), "--engine", "inline", "--strict")
    assert (said.code, said.out.splitlines()[-1]) == (0, "verdict: pass")
    assert "eval rows" not in said.err


def test_of_rows_in_groups_nothing_is_foretold(
    project: Project, rarefy: Callable[..., Said], twins: Callable[[str], Path]
) -> None:
    """Ten users of two rows: how many users would do, only a run can tell."""
    recipe = twins("3 points")
    for name in ("train.jsonl", "eval.jsonl"):
        rows = [json.loads(line) for line in (project.folder / name).read_text().splitlines()]
        users = [json.dumps(row | {"user": at // 2}) for at, row in enumerate(rows)]
        (project.folder / name).write_text("\n".join(users))
    recipe.write_text(recipe.read_text().replace("eval.jsonl}", "eval.jsonl, group: user}"))
    planned = rarefy("plan", recipe)
    assert planned.code == 0
    assert "eval rows (assuming" not in planned.out
    assert "eval.jsonl: its rows are in only 10 groups; intervals draw whole groups" in " ".join(
        planned.out.split()
    )


def test_each_label_with_too_few_rows_is_named_before_the_run_and_after(
    project: Project, rarefy: Callable[..., Said], twins: Callable[[str], Path]
) -> None:
    recipe = twins("3 points")
    text = recipe.read_text()
    recipe.write_text(text.replace("metric: accuracy,", "metric: recall, label: '*',"))
    planned = " ".join(rarefy("plan", recipe).out.split())
    assert "expect 'inconclusive' for 2 of 2 cells: " in planned
    assert "has 10 of about 621" in planned
    told = json.loads(rarefy("plan", recipe, "--json").out)["evidence"][0]
    assert (told["cell"], told["enough"], len(told["cells"])) == ("label=*", False, 2)

    said = rarefy("run", recipe, "--engine", "inline", "--strict")
    assert (said.code, said.out.splitlines()[-1]) == (4, "verdict: inconclusive")
    run = project.home / "runs" / "twins"
    [budget] = json.loads((run / "verdict.json").read_text())["budgets"]
    assert [(cell["rows"], cell["outcome"]) for cell in budget["cells"]] == [
        (10, "inconclusive"),
        (10, "inconclusive"),
    ]
    assert "are needed, but there are only 10" in budget["cells"][0]["reason"]
    assert "Worst of recall (label=\\*)" in (run / "summary.md").read_text()
    assert 'id="cells"' in (run / "report.html").read_text()
