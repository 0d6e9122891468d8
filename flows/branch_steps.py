"""The steps of a branch before it runs, by which what is known of it counts or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flows import branch
from pipeline.run.plan import Plan, Planned
from pipeline.stage.development import NAME
from pipeline.sweep import fields
from pipeline.sweep.branch import Branch


@dataclass(frozen=True)
class Steps:
    """The steps of one branch, by id in order."""

    digests: dict[str, str | None]
    """Those of the artifacts, None if the store has none yet."""
    environments: dict[str, Any]
    """What each depends on besides recipe and data: on the targets, or this machine's CPU."""
    rows: str
    """The digest of the development rows."""

    @classmethod
    def from_plan(cls, plan: Plan, planned: Sequence[Planned]) -> Steps:
        """Return the steps of a plan that a branch runs."""
        ids = fields.steps_of_branch(plan.loaded)
        digests = {}
        for step in planned:
            if step.id in ids:
                digests[step.id] = step.artifact and step.artifact.digest
        return cls(digests, branch.environments(plan), plan.sources[NAME].sha256)

    def match(self, record: Branch) -> bool:
        """Return whether what is known of a branch comes from data and code as they are now.

        It does not if data, model, code or libraries have changed since, or a result was deleted.
        """
        before = [(row.id, row.digest) for row in record.steps]
        now = list(self.digests.items())
        return record.rows == self.rows and before == now[: len(before)]
