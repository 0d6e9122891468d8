"""Name a budget for CI systems, and decide whether it stops the build."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from pipeline.terms.credentials import redact
from pipeline.verdict.verdict import BudgetResult

State = Literal["pass", "fail", "inconclusive", "warned"]

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def names(budgets: Sequence[BudgetResult]) -> list[str]:
    """Return a unique name for each budget, the same from run to run.

    The name does not contain the limit, so that a budget keeps its history if the limit changes.
    """
    seen: Counter[str] = Counter()
    unique = []
    for budget in budgets:
        name = f"{budget.metric} {budget.form}"
        if budget.against:
            name += f" against {budget.against}"
        if budget.place:
            name += f" on {budget.place}"
        if budget.level == "warn":
            name += " (warn)"
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return unique


def state(budget: BudgetResult) -> State:
    """Return a budget's state; ``warned`` if it is not met but its level is ``warn``."""
    if budget.level == "warn" and budget.outcome != "pass":
        return "warned"
    return budget.outcome


def printable(text: str) -> str:
    """Return a text as CI systems may show it: without credentials and without control characters.

    Characters that XML does not allow are replaced, such as NUL and the ANSI escape character.
    """
    return _NOT_XML.sub("\ufffd", redact(text))
