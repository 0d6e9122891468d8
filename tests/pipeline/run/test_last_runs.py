"""What a step's last run took on this machine is noted, and found for the next one."""

from __future__ import annotations

from typing import Any

from rarefy.pipeline.run import estimate
from rarefy.pipeline.store.fresh import Fresh
from tests.conftest import Workshop

OTHER: dict[str, Any] = {"quick:Head": {"fill": "1"}}


def origin(workshop: Workshop, step: str, *stages: Any, **recipe: Any) -> str | None:
    """Return whose last run is found for a step of a recipe, if there is any."""
    plan = workshop.open(*stages, **recipe).plan
    run = estimate.last_run(plan, step)
    return estimate.origin_of(plan, step, run) if run else None


def test_nothing_is_known_before_the_first_run(workshop):
    assert origin(workshop, "head", "quick:Head") is None


def test_a_step_has_the_seconds_and_the_memory_of_its_last_run(workshop):
    finished = workshop.run("quick:Head")
    plan = workshop.open("quick:Head").plan
    run = estimate.last_run(plan, "head")
    record = finished["head"].artifact.run_record()
    assert (run.seconds, run.memory) == (record["seconds"], record["memory"])
    assert run.memory > 50_000_000, "of a process with torch"
    assert estimate.last_run(plan, "model") is not None


def test_it_is_said_which_step_s_run_it_was(workshop):
    workshop.run("quick:Head")
    assert origin(workshop, "head", "quick:Head") == "this step"
    assert origin(workshop, "head", OTHER) == "this step, other parameters"
    assert origin(workshop, "again", {"quick:Head": {}, "as": "again"}) == "head of trial"
    assert origin(workshop, "head", "quick:Head", name="next") == "head of trial"
    workshop.run(OTHER)
    assert origin(workshop, "head", OTHER) == "this step"


def test_the_step_s_own_run_comes_before_a_later_one_of_its_stage(workshop):
    workshop.run("quick:Head")
    workshop.run(OTHER, name="next")
    assert origin(workshop, "head", "quick:Head") == "this step"
    assert origin(workshop, "head", "quick:Head", name="third") == "head of next"


def test_another_device_or_number_of_threads_tells_nothing(workshop):
    workshop.run("quick:Head")
    for change in ({"device": "cuda"}, {"threads": 64}):
        plan = workshop.open("quick:Head").plan
        vars(plan).update(change)
        assert estimate.last_run(plan, "head") is None


def test_a_store_that_trusts_no_results_still_knows_the_times(workshop):
    workshop.run("quick:Head")
    plan = workshop.open("quick:Head").plan
    plan.store = Fresh(workshop.store.root)
    assert estimate.last_run(plan, "head") is not None
