"""The branches that no other is better than, and the answers to a user's questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rarefy.pipeline.sweep.branch import Branch
from rarefy.pipeline.sweep.questions import GOALS, Goal, Question

ROUNDING: Final = 1e-12
"""By how much a difference of accuracies may exceed a limit that it equals."""


def front(branches: Sequence[Branch]) -> list[Branch]:
    """Return the branches that no other equals in all goals and beats in one, the best first.

    The order is that of the first goal. Branches that are not complete are left out; of equals, the
    first stays.
    """
    best: list[Branch] = []
    for branch in _ranked(branches, GOALS):
        if not any(_covers(rival, branch) for rival in best):
            best.append(branch)
    return best


def answer(question: Question, branches: Sequence[Branch]) -> Branch | None:
    """Return the branch that a question asks for, None if none meets its limits.

    Of equals, the one that is better in the other goals.
    """
    first: Goal = question.minimize or "accuracy"
    others = [goal for goal in GOALS if goal != first]
    ranked = _ranked(branches, [first, *others])
    limits = dict(question.limits)
    if question.within is not None:
        lowest = min((branch.cost("accuracy") for branch in ranked), default=0.0)
        limits["accuracy"] = lowest + question.within + ROUNDING
    for branch in ranked:
        if all(branch.cost(goal) <= limit for goal, limit in limits.items()):
            return branch
    return None


def _ranked(branches: Sequence[Branch], goals: Sequence[Goal]) -> list[Branch]:
    """Return the complete branches, the best in the first goal first."""
    complete = [branch for branch in branches if branch.complete]
    return sorted(complete, key=lambda branch: [branch.cost(goal) for goal in goals])


def _covers(rival: Branch, branch: Branch) -> bool:
    """Return whether a rival is as good as a branch in all goals."""
    return all(rival.cost(goal) <= branch.cost(goal) for goal in GOALS)
