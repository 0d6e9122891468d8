"""The steps of a branch before it runs, and how many of them the branches of a sweep share."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flows import branch
from pipeline.run.plan import Plan, Planned
from pipeline.stage.development import NAME
from pipeline.sweep.branch import Branch


@dataclass(frozen=True)
class Key:
    """Stands for an artifact that does not exist yet: what it will depend on."""

    identity: str | None


@dataclass(frozen=True)
class Steps:
    """The steps of one branch, by id in order."""

    keys: Mapping[str, Key]
    """Steps of two branches with the same key are one piece of work."""
    digests: Mapping[str, str]
    """Those of the artifacts that are in the store."""
    environments: Mapping[str, Any]
    """What each depends on besides recipe and data: on the targets, or this machine's CPU."""
    rows: str
    """The digest of the development rows."""

    @classmethod
    def of(cls, plan: Plan, planned: Sequence[Planned]) -> Steps:
        """Return the steps of a plan that a branch runs."""
        keys: dict[str, Any] = {}
        for identifier in branch.needed(plan):
            keys[identifier] = Key(plan.fingerprint(identifier, keys))
        digests = {}
        for step in planned:
            if step.id in keys and step.artifact is not None:
                digests[step.id] = step.artifact.digest
        return cls(keys, digests, branch.environments(plan), plan.sources[NAME].sha256)

    def match(self, record: Branch) -> bool:
        """Return whether what is known of a branch comes from data and code as they are now.

        It does not if data, model, code or libraries have changed since, or a result was deleted.
        """
        before = [(row.id, row.digest) for row in record.steps]
        now = [(identifier, self.digests.get(identifier)) for identifier in self.keys]
        return record.rows == self.rows and before == now[: len(before)]


def count(branches: Collection[Steps]) -> dict[str, int]:
    """Return how much there is to do: steps of all branches, different ones, those in the store."""
    every: list[Key] = []
    cached = set()
    for steps in branches:
        every += steps.keys.values()
        cached.update(steps.keys[identifier] for identifier in steps.digests)
    return {
        "branches": len(branches),
        "steps": len(every),
        "different": len(set(every)),
        "cached": len(cached),
    }
