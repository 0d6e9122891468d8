"""The branches that no other is better than, and the answers to a user's questions."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.sweep.branch import Branch
from pipeline.sweep.questions import GOALS, Goal, Question


def front(branches: Sequence[Branch], goals: Sequence[Goal] = GOALS) -> list[Branch]:
    """Return the branches that no other equals in all goals and beats in one, the best first.

    The order is that of the first goal. Branches that are not complete are left out; of equals, the
    first stays.
    """
    chosen = [branch for branch in branches if branch.complete]
    kept: list[Branch] = []
    for branch in sorted(chosen, key=lambda one: [one.cost(goal) for goal in goals]):
        if not any(all(k.cost(g) <= branch.cost(g) for g in goals) for k in kept):
            kept.append(branch)
    return kept


def answer(question: Question, branches: Sequence[Branch]) -> Branch | None:
    """Return the branch that a question asks for, None if none meets its limits.

    Of equals, the one that is better in the other goals.
    """
    able = [branch for branch in branches if branch.complete]
    best = min((branch.cost("accuracy") for branch in able), default=0.0)
    for goal, limit in question.limits.items():
        able = [branch for branch in able if branch.cost(goal) <= limit]
    if question.within is not None:
        able = [b for b in able if b.cost("accuracy") <= best + question.within + 1e-12]
    first: Goal = question.least or "accuracy"
    others = [goal for goal in GOALS if goal != first]
    return min(able, key=lambda b: [b.cost(g) for g in (first, *others)], default=None)
