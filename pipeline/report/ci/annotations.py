"""Budgets that are not met, as GitHub workflow commands at the budget's line of the recipe.

GitHub shows ten errors, ten warnings and ten notices per step, so errors come first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from pipeline.report import headline
from pipeline.report.ci import cases
from pipeline.terms.budget import Budget
from pipeline.verdict.record import ReportData
from pipeline.verdict.verdict import BudgetResult

Level = Literal["error", "warning", "notice"]
ORDER: tuple[Level, ...] = ("error", "warning", "notice")


def render(
    data: ReportData, strict: bool, file: str, lines: Sequence[tuple[Budget, int]]
) -> list[str]:
    """Return a command for every budget that is not met, and for every lack of evidence.

    ``file``: the recipe's path in the GitHub repository; ``lines``: its budgets with their lines.
    A missed budget is an error; an inconclusive one is an error if ``strict``, else a warning. At
    level ``warn``, a missed budget is a warning and an inconclusive one is a notice.
    """
    if data.verdict is None:
        return []
    found: list[tuple[Level, str]] = []
    if first := headline.first_release(data.absent):
        found.append(("warning", command("warning", first, file, None, f"{data.name}: unjudged")))
    found += [
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
    """Return the command for a run that reached no verdict.

    ``recipe``: the path with which ``reason`` may begin, followed by a line number; ``file``: the
    path in the GitHub repository.
    """
    place = re.match(re.escape(recipe) + r":(\d+): ", reason)
    line = int(place[1]) if place else None
    return command("error", reason, file, line, f"{name}: no verdict")


def command(level: Level, message: str, file: str, line: int | None, title: str) -> str:
    """Return a workflow command; characters that would end it or a property are escaped."""
    properties = {"file": file, "line": None if line is None else str(line), "title": title}
    given = [f"{k}={_property(v)}" for k, v in properties.items() if v is not None]
    return f"::{level} {','.join(given)}::{_data(message)}"


def _data(text: str) -> str:
    # Python's str.splitlines knows more line ends than the runner; replace them by spaces.
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
            for name in ("metric", "form", "limit", "against", "caches", "level")
        )
        if same and budget.target in (None, result.target):
            return line
    return None
