"""What stops a build, as GitHub's workflow commands: shown at the line of the recipe that asks it.

GitHub shows ten errors, ten warnings and ten notices of a step; what stops the build comes first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from pipeline.report.ci import cases
from pipeline.terms.budget import Budget
from pipeline.verdict.record import ReportData
from pipeline.verdict.verdict import BudgetResult

Level = Literal["error", "warning", "notice"]
ORDER: tuple[Level, ...] = ("error", "warning", "notice")


def render(
    data: ReportData, strict: bool, file: str, lines: Sequence[tuple[Budget, int]]
) -> list[str]:
    """Return a command for every budget that is not kept, and for missing evidence.

    ``file``: the recipe's path as GitHub knows it; ``lines``: its budgets, each with its line.
    A missed budget is an error; one that is undecided an error if ``strict``, else a warning. Of
    level ``warn``, one that was missed is a warning, one that is undecided a notice.
    """
    if data.verdict is None:
        return []
    found: list[tuple[Level, str]] = [
        ("error", command("error", sentence, file, None, f"{data.name}: no evidence"))
        for sentence in data.verdict.evidence
    ]
    budgets = data.verdict.budgets
    for name, budget in zip(cases.names(budgets), budgets, strict=True):
        level = _level(budget, strict)
        if level is not None:
            title = f"{data.name}: {name}: {budget.outcome}"
            text = command(level, budget.reason, file, _line(budget, lines), title)
            found.append((level, text))
    return [text for _, text in sorted(found, key=lambda one: ORDER.index(one[0]))]


def broken(name: str, reason: str, recipe: str, file: str) -> str:
    """Return the command for a run that came to no verdict.

    ``recipe`` is its path as ``reason`` may begin with it, and a line; ``file`` as GitHub knows it.
    """
    place = re.match(re.escape(recipe) + r":(\d+): ", reason)
    line = int(place[1]) if place else None
    return command("error", reason, file, line, f"{name}: no verdict")


def command(level: Level, message: str, file: str, line: int | None, title: str) -> str:
    """Word a workflow command; what would end it, or a property of it, is escaped."""
    properties = {"file": file, "line": None if line is None else str(line), "title": title}
    given = [f"{k}={_property(v)}" for k, v in properties.items() if v is not None]
    return f"::{level} {','.join(given)}::{_data(message)}"


def _data(text: str) -> str:
    # str.splitlines knows more line ends than the runner; they are blanked.
    text = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x85\u2028\u2029]", " ", cases.printable(text))
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _level(budget: BudgetResult, strict: bool) -> Level | None:
    state = cases.state(budget)
    if state == "warned":
        return "warning" if budget.outcome == "fail" else "notice"
    if state == "inconclusive":
        return "error" if strict else "warning"
    return "error" if state == "fail" else None


def _line(result: BudgetResult, lines: Sequence[tuple[Budget, int]]) -> int | None:
    for budget, line in lines:
        same = all(
            getattr(budget, name) == getattr(result, name)
            for name in ("metric", "form", "limit", "against", "level")
        )
        if same and budget.target in (None, result.target):
            return line
    return None
