"""What a budget comes to on a CI page: its name there, and whether it stops the build."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from pipeline.verdict.verdict import BudgetResult

State = Literal["pass", "fail", "inconclusive", "warned"]

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def names(budgets: Sequence[BudgetResult]) -> list[str]:
    """Return a name for each budget, no two alike, and the same from run to run.

    The limit is left out: a budget that is made stricter keeps its history.
    """
    seen: Counter[str] = Counter()
    unique = []
    for budget in budgets:
        name = f"{budget.metric} {budget.form}"
        if budget.against:
            name += f" against {budget.against}"
        if budget.target:
            name += f" on {budget.target}"
        if budget.level == "warn":
            name += " (warn)"
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return unique


def state(budget: BudgetResult) -> State:
    """Return how a budget came out; one of level ``warn`` never stops a build."""
    if budget.level == "warn" and budget.outcome != "pass":
        return "warned"
    return budget.outcome


def printable(text: str) -> str:
    """Replace what XML and consoles cannot carry, NUL and ANSI escapes among it."""
    return _NOT_XML.sub("\ufffd", text)
