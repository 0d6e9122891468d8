"""What branches have in common, and which of them is next."""

from __future__ import annotations

from dataclasses import replace

from flows.shared_steps import Order, Steps, Work, common
from pipeline.run.plan import Plan
from pipeline.store.store import Store
from pipeline.sweep import variants
from pipeline.sweep.sweep_file import Sweep
from tests.flows import sweeps
from tests.project import Project

DIGEST = "0" * 64


def steps(*words: str, cached: tuple[str, ...] = ()) -> Steps:
    """Return a branch: each word is a step's id and, after a colon, what it depends on."""
    keys = {word.split(":")[0]: word for word in words}
    return Steps(keys, dict.fromkeys(cached, DIGEST))


A1 = steps("teacher", "student:1", "export:1")
A2 = steps("teacher", "student:1", "export:2")
B1 = steps("teacher", "student:2", "export:3")


def test_shared_steps_are_counted_once() -> None:
    work = Work.of({"a": A1, "b": A2, "c": B1})
    assert (work.branches, work.steps, work.different, work.cached) == (3, 9, 6, 0)
    assert work.words() == (
        "3 branches of 9 steps, 3 of them shared: 6 different steps, 0 in the store, 6 to run"
    )


def test_what_is_left_of_a_branch_that_has_ended_is_not_to_run() -> None:
    begun = replace(B1, made={"teacher": "d"})
    work = Work.of({"a": A1, "b": A2, "c": begun}, over=["c"])
    assert work.words().endswith("6 different steps, 1 in the store, 3 to run")


def test_the_common_beginning_ends_at_the_first_difference() -> None:
    assert common([A1, A2, B1]) == "teacher"
    assert common([A1, A2]) == "student"
    assert common([steps("a:1"), steps("a:2")]) is None


def test_the_second_worker_takes_the_branch_that_shares_least() -> None:
    order = Order({"a1": A1, "a2": A2, "b1": B1})
    assert order.next(["a1", "a2", "b1"], []) == "a1"
    assert order.next(["a2", "b1"], ["a1"]) == "b1"


def test_when_a_shared_step_is_finished_its_branches_are_free() -> None:
    order = Order({"a1": A1, "a2": A2, "b1": B1})
    order.finished("a1", ["teacher", "student"])
    assert order.next(["b1", "a2"], ["a1"]) == "a2", "it has less left to do"


def test_steps_in_the_store_hinder_nobody() -> None:
    order = Order({"a1": steps("teacher", "export:1", cached=("teacher",)), "a2": A2})
    assert order.next(["a2"], ["a1"]) == "a2"


def planned(project: Project, sweep: Sweep) -> list[Steps]:
    """Return the steps of each branch, as the project's store has them."""
    found = []
    for one in variants.grid(sweep):
        plan = Plan(variants.recipe(sweep, one), Store(project.home / "store"))
        found.append(Steps.of(plan, plan.steps()))
    return found


def test_a_recipe_s_steps_have_the_same_key_as_far_as_they_are_the_same(project: Project) -> None:
    sweep = sweeps.load(project, "export.samples: [dev, none]")
    first, second = (each.keys for each in planned(project, sweep))
    assert list(first) == ["model", "head", "export"]
    assert first["head"] == second["head"]
    assert first["export"] != second["export"]


def test_a_step_that_depends_on_the_target_is_not_shared_with_another_one(project: Project) -> None:
    stages = ("quickstages:Head", "quantize", "export", sweeps.VALIDATE)
    found = planned(project, sweeps.load(project, "targets.0.isa: [avx2, vnni]", stages=stages))
    assert common(found) == "head"
    assert Work.of(dict(enumerate(found))).different == 6


def test_branches_with_other_seeds_share_what_does_not_depend_on_them(project: Project) -> None:
    stages = ("{quickstages:Head: {}, seed: 3}", "quantize", "export", sweeps.VALIDATE)
    found = planned(project, sweeps.load(project, "seed: [0, 1]", stages=stages))
    assert common(found) == "head"
    assert found[0].keys["export"] != found[1].keys["export"]
