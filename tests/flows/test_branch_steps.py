"""What is known of a branch counts as long as its steps are the same."""

from __future__ import annotations

from typing import Any

from flows.branch_steps import Steps
from pipeline.run.plan import Plan
from pipeline.store.store import Store
from pipeline.sweep import variants
from pipeline.sweep.branch import Branch
from tests.flows import sweeps
from tests.project import Project


def test_a_record_of_other_rows_or_steps_matches_no_branch(project: Project) -> None:
    sweep = sweeps.load(project)
    loaded = variants.recipe(sweep, variants.grid(sweep)[0].values)
    plan = Plan(loaded, Store(project.home / "store"))
    steps = Steps.from_plan(plan, plan.steps())
    assert steps.digests == {"model": None, "head": None, "export": None}
    record = Branch(name="note-a", values={}, rows=steps.rows)
    assert steps.match(record), "none of its steps is another one"
    assert not steps.match(record.model_copy(update={"rows": "0" * 64}))
    row: Any = {"id": "model", "digest": "0" * 64, "cached": False, "seconds": 1.0}
    record = Branch(name="note-a", values={}, rows=steps.rows, steps=[row])
    assert not steps.match(record)
    known = Steps(steps.digests | {"model": "0" * 64}, {}, steps.rows)
    assert known.match(record)
