"""Budgets that are not met, as GitHub workflow commands at the budget's line of the recipe.

GitHub shows ten errors and ten warnings per step, so errors come first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from operator import attrgetter
from typing import Literal

from rarefy.pipeline.report import headline
from rarefy.pipeline.report.ci import junit
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.verdict.record import ReportData
from rarefy.pipeline.verdict.verdict import BudgetResult

Level = Literal["error", "warning"]
ORDER: tuple[Level, ...] = ("error", "warning")
_LINE_ENDS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x85\u2028\u2029]")
_ESCAPED = {"%": "%25", "\r": "%0D", "\n": "%0A"}


def render(
    data: ReportData, strict: bool, file: str, lines: Sequence[tuple[Budget, int]]
) -> list[str]:
    """Return a command for every budget that is not met, and for every lack of evidence.

    A missed budget is an error; an inconclusive one is an error if ``strict``, else a warning. At
    level ``warn``, both are warnings.

    Args:
        data: The record of a run.
        strict: Whether an inconclusive budget is an error.
        file: The recipe's path in the GitHub repository.
        lines: Its budgets with their lines.
    """
    if data.verdict is None:
        return []
    commands: dict[Level, list[str]] = {level: [] for level in ORDER}
    first = headline.first_release(data.absent)
    if first:
        title = f"{data.name}: unjudged"
        commands["warning"].append(command("warning", first, file, None, title))
    for sentence in data.verdict.evidence:
        title = f"{data.name}: no evidence"
        commands["error"].append(command("error", sentence, file, None, title))
    budgets = data.verdict.budgets
    for name, budget in zip(junit.case_names(budgets), budgets, strict=True):
        level = _level(budget, strict)
        if level is not None:
            title = f"{data.name}: {name}: {budget.outcome}"
            line = _line(budget, lines)
            commands[level].append(command(level, budget.reason, file, line, title))
    return list(chain(*commands.values()))


def broken(name: str, reason: str, recipe: str, file: str) -> str:
    """Return the command for a run that reached no verdict.

    Args:
        name: The recipe's name.
        reason: The error.
        recipe: The path with which ``reason`` may begin, followed by a line number.
        file: The recipe's path in the GitHub repository.
    """
    place = re.match(re.escape(recipe) + r":(\d+): ", reason)
    line = None
    if place:
        line = int(place[1])
    return command("error", reason, file, line, f"{name}: no verdict")


def command(level: Level, message: str, file: str, line: int | None, title: str) -> str:
    """Return a workflow command; characters that would end it or a property are escaped."""
    properties = [f"file={_property(file)}"]
    if line is not None:
        properties.append(f"line={line}")
    properties.append(f"title={_property(title)}")
    return f"::{level} {','.join(properties)}::{_data(message)}"


def _data(text: str) -> str:
    # Python's str.splitlines knows more line ends than the runner; replace them by spaces.
    text = _LINE_ENDS.sub(" ", junit.printable(text))
    for character, escaped in _ESCAPED.items():
        text = text.replace(character, escaped)
    return text


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _level(budget: BudgetResult, strict: bool) -> Level | None:
    state = junit.case_state(budget)
    if state == "warned":
        return "warning"
    if state == "inconclusive":
        if strict:
            return "error"
        return "warning"
    if state == "fail":
        return "error"
    return None


def _line(result: BudgetResult, lines: Sequence[tuple[Budget, int]]) -> int | None:
    identity = attrgetter("metric", "cell", "form", "limit", "against", "caches", "level")
    for budget, line in lines:
        if identity(budget) == identity(result) and budget.target in (None, result.target):
            return line
    return None
