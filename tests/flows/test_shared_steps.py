"""What the steps of branches depend on, and what branches have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.shared_steps import Steps, count
from pipeline.run.plan import Plan
from pipeline.store.store import Store
from pipeline.sweep import variants
from pipeline.sweep.branch import Branch
from pipeline.sweep.sweep_file import Sweep
from tests.flows import sweeps
from tests.project import Project, write_rows


def planned(project: Project, sweep: Sweep) -> list[Steps]:
    """Return the steps of each branch, as the project's store has them."""
    branches = []
    for one in variants.grid(sweep):
        plan = Plan(variants.recipe(sweep, one.values), Store(project.home / "store"))
        branches.append(Steps.of(plan, plan.steps()))
    return branches


def common(first: Steps, second: Steps) -> list[str]:
    """Return the ids of the steps that two branches have in common."""
    return [step for step, key in first.keys.items() if second.keys.get(step) == key]


def test_a_recipe_s_steps_have_the_same_key_as_far_as_they_are_the_same(project: Project) -> None:
    first, second = planned(project, sweeps.load(project, "export.samples: [dev, none]"))
    assert list(first.keys) == ["model", "head", "export"]
    assert common(first, second) == ["model", "head"]
    assert first.digests == {}
    assert count([first, second]) == {"branches": 2, "steps": 6, "different": 4, "cached": 0}


def test_a_step_that_depends_on_the_target_is_not_shared_with_another_one(project: Project) -> None:
    stages = ("quickstages:Head", "quantize", "export", sweeps.VALIDATE)
    first, second = planned(
        project, sweeps.load(project, "targets.0.isa: [avx2, vnni]", stages=stages)
    )
    assert common(first, second) == ["model", "head"]


def test_branches_with_other_seeds_share_what_does_not_depend_on_them(project: Project) -> None:
    stages = ("{quickstages:Head: {}, seed: 3}", "quantize", "export", sweeps.VALIDATE)
    first, second = planned(project, sweeps.load(project, "seed: [0, 1]", stages=stages))
    assert common(first, second)[:2] == ["model", "head"]
    assert first.keys["export"] != second.keys["export"]


def test_a_record_of_other_rows_or_steps_matches_no_branch(project: Project) -> None:
    steps = planned(project, sweeps.load(project))[0]
    record = Branch(name="note-a", values={}, rows=steps.rows)
    assert steps.match(record), "none of its steps is another one"
    assert not steps.match(record.model_copy(update={"rows": "0" * 64}))
    row: Any = {"id": "model", "digest": "0" * 64, "cached": False, "seconds": 1.0}
    assert not steps.match(Branch(name="note-a", values={}, rows=steps.rows, steps=[row]))
    write_rows(Path(project.folder) / "train.jsonl", 40, 5)
    assert planned(project, sweeps.load(project))[0].keys["head"] != steps.keys["head"]
