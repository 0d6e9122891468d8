"""The report's summary as GitHub-flavoured Markdown, for step summaries and Prefect artifacts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rarefy.pipeline.measure.predictions import slices
from rarefy.pipeline.report import accuracy, facts, headline, throughput, wording
from rarefy.pipeline.terms.outcomes import SYMBOL
from rarefy.pipeline.terms.wording import escape
from rarefy.pipeline.verdict.record import LedgerRow, ReportData
from rarefy.pipeline.verdict.verdict import BudgetResult

BUDGETS: Final = {
    "Outcome": ":--",
    "Metric": ":--",
    "Target": ":--",
    "Required": ":--",
    "Measured": "--:",
    "95% bounds": "--:",
    "Reason": ":--",
}
LEDGER: Final = {
    "Stage": ":--",
    "Kind": ":--",
    "Score": "--:",
    "95% interval": "--:",
    "Parameters": "--:",
    "Size": "--:",
    "Time": "--:",
    "Cached": ":--",
}
"""The headings of a table, and how its columns are aligned."""


def render(data: ReportData) -> str:
    """Return the summary: verdict, budgets, worst slice, stages and warnings."""
    head = headline.build(data)
    name = escape(data.name)
    title = f"## {head.symbol} {head.word}: {name}"
    numbers = [_number(number) for number in head.numbers]
    unmet = [_unmet(budget) for budget in head.unmet]
    parts = [title, escape(head.sentence), "\n".join(unmet), "\n".join(numbers)]
    if data.verdict:
        parts += [f"> ✗ No verdict: {escape(reason)}" for reason in data.verdict.evidence]
        ordered = headline.by_urgency(data.verdict.budgets)
        rows = map(_budget, ordered)
        parts.append(_table("Budgets", BUDGETS, rows))
        parts += map(_worst_cell, data.verdict.budgets)
    parts.append(_worst_slice(data))
    rows = map(_stage, data.ledger)
    parts.append(_table("Stages", LEDGER, rows))
    linear = facts.linear_line(data.measurements) or ""
    decided = facts.decided_line(data.measurements) or ""
    parts.append(escape(linear))
    probe = facts.probe_line(data.measurements) or ""
    parts.append(escape(probe))
    parts.append(escape(decided))
    counted = throughput.lines(data.measurements)
    parts += map(escape, counted)
    parts += [f"> ⚠ {escape(warning)}" for warning in data.warnings]
    return "\n\n".join(filter(None, parts)) + "\n"


def _number(number: headline.Number) -> str:
    interval = ""
    if number.interval:
        interval = f" ({number.bounds} {number.interval})"
    detail = escape(number.detail)
    line = f"- **{number.figure} {number.meaning}**{interval}: {detail}"
    if number.caution:
        caution = escape(number.caution)
        line += f" (⚠ {caution})"
    return line


def _unmet(budget: headline.Unmet) -> str:
    """Return a budget that is not met, in a line with its advice."""
    symbol = SYMBOL[budget.outcome]
    title = escape(budget.title)
    measured = escape(budget.measured)
    required = escape(budget.requirement)
    advice = escape(budget.advice.text)
    return f"- {symbol} **{title}**: measured {measured}, required {required}. {advice}."


def _budget(budget: BudgetResult) -> list[str]:
    outcome = f"{SYMBOL[budget.outcome]} {budget.outcome}"
    if budget.level == "warn":
        outcome += " (warning)"
    value = "–"
    if budget.value is not None:
        value = wording.budget_value(budget, budget.value)
    requirement = wording.requirement(budget)
    return [
        outcome,
        escape(budget.subject),
        escape(budget.place or "–"),
        escape(requirement),
        value,
        wording.interval(budget) or "–",
        escape(budget.reason),
    ]


def _worst_cell(budget: BudgetResult) -> str:
    """Return a warning about the worst label or slice of a budget; empty if all keep the limit."""
    if budget.outcome == "pass" or not budget.is_family or not budget.cells:
        return ""
    worst = budget.cells[0]
    symbol = SYMBOL[worst.outcome]
    subject = escape(budget.subject)
    name = escape(worst.name)
    reason = escape(worst.reason)
    return f"> {symbol} Worst of {subject}: **{name}**, {reason}"


def _worst_slice(data: ReportData) -> str:
    """Return a warning about the worst slice; empty if no slice is significantly worse."""
    sides = facts.compared(data)
    if sides is None or not sides[0].truth:
        return ""
    measured, reference = sides
    parts = slices.compare(measured, reference)
    worse = [part for part in parts if part.worse]
    if not worse:
        return ""
    part = worse[0]
    name = f"{escape(part.slicing)} **{escape(part.part)}**"
    score, base = map(wording.percent, (part.candidate.value, part.reference.value))
    rows = wording.plural(part.rows, facts.block(data))
    chance = escape(accuracy.chance(part.corrected_p))
    line = f"> ⚠ Worst slice: {name}, {score} against {base} for {escape(reference)} on {rows} "
    line += f"({chance}, corrected for {len(parts)} slices)"
    if len(worse) > 1:
        line += f"; {len(worse)} of {len(parts)} slices are significantly worse"
    return line


def _stage(row: LedgerRow) -> list[str]:
    score = interval = "–"
    if row.accuracy:
        value, low, high = (wording.score(end, row.metric) for end in row.accuracy)
        score = value
        interval = wording.span(low, high)
    parameters = "–"
    if row.parameters is not None:
        parameters = wording.count(row.parameters)
    return [
        escape(row.id),
        wording.kind(row.kind),
        score,
        interval,
        parameters,
        wording.size(row.size),
        wording.duration(row.seconds),
        "yes" if row.cached else "no",
    ]


def _table(title: str, columns: dict[str, str], rows: Iterable[list[str]]) -> str:
    """Return a table with its title; empty if there are no rows."""
    cells = list(rows)
    if not cells:
        return ""
    cells = [list(columns), list(columns.values()), *cells]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return f"### {title}\n\n" + "\n".join(lines)
