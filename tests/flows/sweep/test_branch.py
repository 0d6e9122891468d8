"""One branch: its steps, its record, and when it ends early."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rarefy.flows.sweep import branch
from rarefy.pipeline.run.engine import Run
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.sweep import fields, variants
from rarefy.pipeline.sweep.branch import Branch, Folder
from rarefy.pipeline.terms.interval import Interval
from tests.flows import sweeps
from tests.project import Project


def run(
    project: Project, *given: str, at: int = 0, export: bool = False, **changes: object
) -> Branch:
    stages = ("quickstages:Head", "export") if export else ("quickstages:Head",)
    sweep = sweeps.load(project, *given, stages=stages, budgets="")
    one = variants.grid(sweep)[at]
    return Branch.model_validate(branch.run(sweeps.assignment(project, sweep, one, **changes)))


def test_a_branch_makes_its_bundle_and_no_report(project: Project) -> None:
    made = run(project, export=True)
    kept = Folder(project.home / "sweeps" / "trial").branch(made.name)
    assert kept == made
    assert (made.state, made.why, made.metric) == ("done", None, "accuracy")
    assert [step.id for step in made.steps] == ["model", "head", "export"]
    assert made.bundle == made.steps[-1].digest
    assert made.size is not None
    assert made.size > 1000
    assert made.accuracy is not None
    assert 0 <= made.accuracy.low <= made.accuracy.value <= made.accuracy.high <= 1
    assert made.worker is not None
    assert made.worker.endswith(f":{os.getpid()}")


def test_a_branch_without_a_bundle_has_the_score_of_its_last_model(project: Project) -> None:
    made = run(project)
    assert (made.state, made.bundle, made.size, made.metric) == ("done", None, None, "accuracy")
    assert made.accuracy is not None
    assert not made.complete


def test_a_branch_is_ranked_by_the_bundle_that_its_recipe_s_run_delivers(project: Project) -> None:
    """``validate`` measures the first of two; the second is for others."""
    other = "{export: {samples: none}, as: other, from: head}"
    made = run_of(project, ("quickstages:Head", "export", sweeps.VALIDATE, other))
    digests = {step.id: step.digest for step in made.steps}
    assert list(digests) == ["model", "head", "export", "other"]
    assert made.bundle == digests["export"] != digests["other"]


def test_a_worker_refuses_steps_that_would_have_another_result_where_the_sweep_was_started(
    project: Project,
) -> None:
    """The chosen recipe runs there, and would make another bundle than its branch."""
    made = run(project, environments={"model": {}, "head": {"cpu_bf16": False}})
    assert (made.state, made.steps) == ("failed", [])
    assert "'head' depends on the machine, and cpu_bf16 is False where the sweep" in str(made.why)
    assert run(project, environments={"model": {}, "head": {}}).state == "done"


def test_steps_that_another_branch_has_made_are_found(project: Project) -> None:
    first = run(project)
    second = run(project, at=1)
    assert [step.cached for step in first.steps] == [False, False]
    assert [step.cached for step in second.steps] == [True, False]
    assert first.steps[0].digest == second.steps[0].digest


def test_eval_is_not_looked_at(project: Project) -> None:
    """Only the models that are chosen are scored there, by a run of their own."""
    run(project, export=True)
    notes = project.home / "store" / "notes"
    scores = list(notes.glob("score-*.json"))
    assert len(scores) == 1, "the bundle on the development rows"


def test_a_hopeless_branch_stops_before_its_export(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    weak = ("accuracy", Interval(0.6, 0.5, 0.7))
    monkeypatch.setattr(branch.scoring, "on_dev", lambda *_: weak)
    made = run(
        project, "head.note: [a, b]", "stop: [{after: head, min_accuracy: 70 %}]", export=True
    )
    assert made.state == "stopped"
    assert "60.0% after head; at least 70.0%" in str(made.why).replace("\u00a0", " ")
    assert [step.id for step in made.steps] == ["model", "head"]
    assert made.steps[-1].accuracy == weak[1]
    assert made.bundle is None


def test_an_error_of_the_recipe_is_a_failed_branch(project: Project) -> None:
    made = run_of(project, ("quickstages:Head", "quickstages:Break", "export"))
    assert (made.state, made.why) == ("failed", "break: the weights are made of cheese")
    assert [step.id for step in made.steps] == ["model", "head"]


def run_of(project: Project, stages: tuple[str, ...]) -> Branch:
    sweep = sweeps.load(project, stages=stages, budgets="")
    one = variants.grid(sweep)[0]
    return Branch.model_validate(branch.run(sweeps.assignment(project, sweep, one)))


def test_an_error_that_may_pass_is_left_to_the_next_attempt(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise ConnectionResetError("the store is away")

    monkeypatch.setattr(branch, "open_run", away)
    with pytest.raises(ConnectionResetError):
        run(project)


def test_reports_are_left_out_unless_a_step_reads_them(project: Project) -> None:
    stages = ("quickstages:Head", "quickstages:Judge", "{export: {}, from: head}", sweeps.VALIDATE)
    sweep = sweeps.load(project, stages=stages, budgets="")
    one = variants.grid(sweep)[0]
    asked = branch.Assignment(**sweeps.assignment(project, sweep, one))
    plan = branch.open_run(asked, variants.recipe(sweep, one.values)).plan
    assert plan.kinds()["judge"] is Kind.REPORT
    assert fields.steps_of_branch(plan.loaded) == ["model", "head", "export"]


def test_a_worker_without_the_folder_says_what_to_do(project: Project) -> None:
    """Also if it has none of the recipe's files, as on another machine; it makes no folder."""
    nowhere = project.folder / "nowhere"
    (project.folder / "train.jsonl").unlink()
    made = run(project, folder=nowhere)
    assert made.state == "failed"
    assert str(made.why).startswith(f"{nowhere}: ")
    assert str(made.why).endswith("let workers share results through --store URL")
    assert not nowhere.exists()


def test_threads_are_fixed(project: Project) -> None:
    import torch

    stages = project.folder / "modules" / "quickstages.py"
    see = "import torch\n        print('threads', torch.get_num_threads())\n"
    stages.write_text(stages.read_text().replace("import torch\n", see, 1))
    before = torch.get_num_threads()
    with redirect_stdout(io.StringIO()) as printed:
        run(project, threads=before + 1)
    assert printed.getvalue().splitlines() == [f"threads {before + 1}"]
    torch.set_num_threads(before)


@pytest.mark.slow
def test_workers_share_what_they_make_through_a_store_alone(project: Project) -> None:
    """Two workers with a home each; the second fetches the recipe's files and the first's work."""
    from rarefy.flows.sharing import recipe_source

    url = (project.folder / "shared").as_uri()
    sweep = sweeps.load(project, stages=("quickstages:Head",), budgets="")
    (project.folder / "quickstages.py").write_text(
        (project.folder / "modules" / "quickstages.py").read_text()
    )
    made = []
    for number, one in enumerate(variants.grid(sweep)):
        path = project.folder / "sent" / f"{one.name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(variants.recipe(sweep, one.values).text)
        given = sweeps.assignment(project, sweep, one) | {
            "source": recipe_source.send(path, url, sweep.recipe.base),
            "base": None,
            "folder": None,
            "home": str(project.folder / f"worker-{number}"),
            "store": url,
        }
        made.append(Branch.model_validate(branch.run(given)))
    assert [each.state for each in made] == ["done", "done"], made[1].why
    assert [step.cached for step in made[1].steps] == [True, False]


@pytest.mark.slow
def test_a_branch_in_a_process_of_its_own_makes_the_same(project: Project) -> None:
    sweep = sweeps.load(project, stages=("quickstages:Head",), budgets="")
    one = variants.grid(sweep)[0]
    here = branch.run(sweeps.assignment(project, sweep, one))
    ticks: list[float] = []
    given = sweeps.assignment(project, sweep, one, home=project.folder / "another")
    there = branch.run_in_process(given, lambda: ticks.append(time.monotonic()))
    assert [s["digest"] for s in there["steps"]] == [s["digest"] for s in here["steps"]]
    assert there["worker"] != here["worker"]
    assert ticks


def test_a_process_ends_with_its_parent(tmp_path: Path) -> None:
    """A process whose parent is killed does not go on for nobody."""
    child = (
        "import os, pathlib, sys, time\n"
        "from rarefy.flows.sweep import branch\n"
        "branch.end_with(os.getppid())\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        "time.sleep(60)\n"
    )
    parent = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        "time.sleep(60)\n"
    )
    started = subprocess.Popen([sys.executable, "-c", parent])
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    pid = int((tmp_path / "pid").read_text())
    started.kill()
    started.wait()
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid}/stat").exists() and ") Z " in Path(f"/proc/{pid}/stat").read_text():
            return
        time.sleep(0.2)
    pytest.fail("it still runs")


def test_what_was_timed_while_disturbed_ends_its_branch(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each branch would make its own, and the run of the chosen recipe another bundle."""
    real, last = Run.run_stage, False

    def stage(self: Run, identifier: str, *given: Any) -> Any:
        draft = real(self, identifier, *given)
        return replace(draft, lasts=last) if identifier == "head" else draft

    monkeypatch.setattr(Run, "run_stage", stage)
    made = run(project)
    assert (made.state, [step.id for step in made.steps]) == ("failed", ["model"])
    assert str(made.why).startswith("head: timing was disturbed in every attempt")
    last = True
    assert run(project).state == "done"
