"""Which steps the branches of a sweep have in common, and which branch to start next.

A step is known by all that it depends on, as far as the recipe says it: steps of two branches with
the same key are one piece of work. (Fingerprints would say it exactly, but a step has one only when
its inputs exist.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flows import branch as branches
from pipeline.recipe.recipe import MODEL
from pipeline.run.plan import Plan, Planned
from pipeline.store.artifact import Kind
from pipeline.sweep.branch import StepRow
from pipeline.sweep.sweep_file import Sweep
from pipeline.terms.digests import value_sha256
from pipeline.terms.errors import RecipeError


@dataclass(frozen=True)
class Steps:
    """The steps of one branch: id -> key, in order.

    ``made``: the digests of those in the store, by id.
    """

    keys: dict[str, str]
    made: Mapping[str, str] = field(default_factory=dict)
    bundle: bool = True
    """Whether one of them makes a bundle."""
    environments: Mapping[str, Any] = field(default_factory=dict)
    """What else each depends on: on the targets, or on this machine's CPU."""

    @classmethod
    def of(cls, plan: Plan, planned: Sequence[Planned]) -> Steps:
        """Return the steps of a plan that a branch runs."""
        recipe = plan.loaded.recipe
        common = recipe.model_dump(mode="json", include={"model", "task", "data"})
        keys: dict[str, str] = {}
        environments = branches.environments(plan)
        for identifier in branches.needed(plan):
            stage = plan.stage_of(identifier)
            parents = [[role, keys[name]] for role, name in plan.parents(identifier)]
            about: list[Any] = []
            if identifier != MODEL:
                about = [stage.model_dump(mode="json"), plan.seed(stage), parents]
                about.append(environments[identifier])
            keys[identifier] = value_sha256([stage.name, common, about])
        made = {s.id: s.artifact.digest for s in planned if s.artifact and s.id in keys}
        bundle = any(step.kind is Kind.BUNDLE for step in planned if step.id in keys)
        return cls(keys, made, bundle, environments)

    def begin_with(self, rows: Sequence[StepRow]) -> bool:
        """Return whether rows are of the first steps, as the store has them now.

        They are not if data, model, code or libraries have changed since, or a result was deleted.
        """
        now = [(identifier, self.made.get(identifier)) for identifier in self.keys]
        return [(row.id, row.digest) for row in rows] == now[: len(rows)]


@dataclass(frozen=True)
class Work:
    """How much there is to do: steps of all branches, different ones, and those in the store.

    ``over``: those that no branch will run, as theirs was stopped or has failed.
    """

    branches: int
    steps: int
    different: int
    cached: int
    over: int

    @classmethod
    def of(cls, steps: Mapping[str, Steps], over: Collection[str] = ()) -> Work:
        """Return the work of branches, of which those in ``over`` have ended."""
        every = list(steps.values())
        left = {
            key for name, each in steps.items() if name not in over for key in each.keys.values()
        }
        made = {each.keys[name] for each in every for name in each.made}
        return cls(
            branches=len(every),
            steps=sum(len(each.keys) for each in every),
            different=len({key for each in every for key in each.keys.values()}),
            cached=len(made),
            over=len({key for each in every for key in each.keys.values()} - left - made),
        )

    def words(self) -> str:
        """Return the numbers in one sentence."""
        shared = self.steps - self.different
        return (
            f"{self.branches} branches of {self.steps} steps, {shared} of them shared: "
            f"{self.different} different steps, {self.cached} in the store, "
            f"{self.different - self.cached - self.over} to run"
        )


def check(sweep: Sweep, planned: Sequence[Steps]) -> None:
    """Raise RecipeError if no branch makes a bundle.

    ``planned``: the steps of all branches, or, of a search, of its recipe.
    """
    if not any(each.bundle for each in planned):
        raise RecipeError(
            f"{sweep.path}: no branch makes a bundle, so none can be measured; add the stage "
            f"'export' to {sweep.file.recipe}"
        )


def common(steps: Sequence[Steps]) -> str | None:
    """Return the id of the last step before which all branches are one; None if there is none."""
    last = None
    for identifier, key in steps[0].keys.items():
        if any(each.keys.get(identifier) != key for each in steps[1:]):
            return last
        last = identifier
    return last


@dataclass
class Order:
    """Chooses branches so that two workers seldom wait for the same step."""

    steps: Mapping[str, Steps]
    """Branch -> its steps."""
    done: set[str] = field(default_factory=set)
    """The keys of finished steps."""

    def finished(self, name: str, identifiers: Iterable[str]) -> None:
        """Note which steps of a branch are finished."""
        keys = self.steps[name].keys
        self.done.update(keys[each] for each in identifiers if each in keys)

    def next(self, waiting: Sequence[str], running: Iterable[str]) -> str:
        """Return the waiting branch with the fewest unfinished steps that a running one has too.

        Of equals, the one with the most steps that are finished, so that what was made lately is
        used while it is in the page cache; then the first.
        """
        busy = Counter(key for name in running for key in self._left(name))

        def cost(name: str) -> tuple[int, int]:
            left = self._left(name)
            return sum(1 for key in left if busy[key]), len(left)

        return min(waiting, key=cost)

    def _left(self, name: str) -> list[str]:
        steps = self.steps[name]
        ready = {steps.keys[each] for each in steps.made}
        return [key for key in steps.keys.values() if key not in self.done and key not in ready]
