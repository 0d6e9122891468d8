"""The report's summary as GitHub-flavoured Markdown, for step summaries and Prefect artifacts."""

from __future__ import annotations

from pipeline.measure import slices
from pipeline.report import accuracy, facts, headline, linear, wording
from pipeline.terms.outcomes import SYMBOL
from pipeline.terms.wording import escape
from pipeline.verdict.record import LedgerRow, ReportData
from pipeline.verdict.verdict import BudgetResult


def render(data: ReportData) -> str:
    """Return the summary: verdict, budgets, worst slice, stages and warnings."""
    head = headline.build(data)
    parts = [f"## {head.symbol} {head.word}: {escape(data.name)}", escape(head.sentence)]
    if head.numbers:
        parts.append("\n".join(_number(number) for number in head.numbers))
    if data.verdict:
        parts += [f"> ✗ No verdict: {escape(reason)}" for reason in data.verdict.evidence]
    if data.verdict and data.verdict.budgets:
        header = ["Outcome", "Metric", "Target", "Required", "Measured", "95 % bounds", "Reason"]
        rows = [_budget(budget) for budget in data.verdict.budgets]
        parts.append("### Budgets\n\n" + _table(header, rows, "llllrrl"))
    if worst := _worst_slice(data):
        parts.append(worst)
    if data.ledger:
        header = ["Stage", "Kind", "Score", "95 % interval", "Parameters", "Size", "Time", "Cached"]
        rows = [_ledger(row) for row in data.ledger]
        parts.append("### Stages\n\n" + _table(header, rows, "llrrrrrl"))
    if beside := linear.line(data.measurements):
        parts.append(escape(beside))
    parts += [f"> ⚠ {escape(warning)}" for warning in data.warnings]
    return "\n\n".join(parts) + "\n"


def _number(number: headline.Number) -> str:
    interval = f" (95 % interval {number.interval})" if number.interval else ""
    return f"- **{number.figure} {number.meaning}**{interval}: {escape(number.detail)}"


def _budget(budget: BudgetResult) -> list[str]:
    word = budget.outcome + (" (warning)" if budget.level == "warn" else "")
    value = "–" if budget.value is None else wording.budget_value(budget, budget.value)
    return [
        f"{SYMBOL[budget.outcome]} {word}",
        escape(budget.metric),
        escape(budget.place or "–"),
        escape(wording.asked(budget)),
        value,
        wording.interval(budget) or "–",
        escape(budget.reason),
    ]


def _worst_slice(data: ReportData) -> str | None:
    """Return a warning about the worst slice; None if no slice is significantly worse."""
    compared = accuracy.sides(data)
    if compared is None:
        return None
    measured, reference = compared
    parts = slices.compare(measured, reference)
    worse = [part for part in parts if part.worse]
    if not worse:
        return None
    part, count = worse[0], len(parts)
    more = f"; {len(worse)} of {count} slices are significantly worse" if len(worse) > 1 else ""
    return (
        f"> ⚠ Worst slice: {escape(part.slicing)} **{escape(part.part)}**, "
        f"{wording.percent(part.candidate.value)} against "
        f"{wording.percent(part.reference.value)} for {escape(reference)} on "
        f"{wording.plural(part.rows, facts.block(data))} "
        f"({escape(accuracy.chance(part.corrected_p))}, corrected for {count} slices){more}"
    )


def _ledger(row: LedgerRow) -> list[str]:
    score = interval = "–"
    if row.accuracy:
        value, low, high = (wording.score(end, row.metric) for end in row.accuracy)
        score, interval = value, f"{low} – {high}"
    return [
        escape(row.id),
        wording.kind(row.kind),
        score,
        interval,
        "–" if row.parameters is None else wording.count(row.parameters),
        wording.size(row.size),
        wording.duration(row.seconds),
        "yes" if row.cached else "no",
    ]


def _table(header: list[str], rows: list[list[str]], align: str) -> str:
    rule = ["--:" if side == "r" else ":--" for side in align]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))
