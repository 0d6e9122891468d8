"""The Markdown summary lists every budget, and no text can break its table."""

from __future__ import annotations

from itertools import pairwise

from markdown_it import MarkdownIt

from rarefy.pipeline.report import headline, markdown
from rarefy.pipeline.verdict.verdict import BudgetResult, Verdict
from tests.pipeline.report.ci.budgets import HOSTILE, budgets, ten
from tests.pipeline.report.factory import loses_a_slice, report_data


def test_it_says_the_verdict_every_budget_and_every_stage() -> None:
    data = report_data()
    text = markdown.render(data)
    assert text.startswith("## ✓ Pass: movie-reviews\n")
    shown = text.replace("\\", "")
    for budget in data.verdict.budgets:
        assert f"| {budget.reason} |" in shown
    for row in data.ledger:
        assert f"| {row.id} |" in text


def test_pipes_newlines_and_markup_in_a_text_stay_inside_their_cell() -> None:
    hostile = BudgetResult(
        metric="accuracy",
        form="min",
        limit=0.9,
        outcome="fail",
        reason="a | b\n| c <img src=x> `d`",
    )
    text = markdown.render(report_data(verdict=Verdict(outcome="fail", budgets=[hostile])))
    line = next(line for line in text.splitlines() if "a \\| b" in line)
    assert "a \\| b \\| c \\<img src=x\\> \\`d\\`" in line
    header = next(line for line in text.splitlines() if line.startswith("| Outcome"))
    assert line.replace("\\|", "").count("|") == header.count("|")


def test_the_worst_slice_is_said_only_where_it_is_no_accident() -> None:
    assert "slice" not in markdown.render(report_data())
    text = markdown.render(report_data(measurements=loses_a_slice()))
    assert "> ⚠ Worst slice: length **31–64 tokens**" in text
    assert "corrected for 9 slices" in text


def test_a_chain_without_validate_is_said_to_be_unjudged() -> None:
    text = markdown.render(report_data(verdict=None, measurements=None))
    assert "Not validated" in text
    assert "Budgets" not in text


def test_the_summary_renders_as_tables_with_all_cells() -> None:
    """Rendered by GitHub's rules for tables, where a stray pipe would shift cells."""
    hostile = budgets()[7].model_copy(update={"reason": HOSTILE})
    data = ten(budgets=[*budgets(), hostile])
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(markdown.render(data))
    rows: list[list[str]] = []
    for token, following in pairwise(tokens):
        if token.type == "tr_open":
            rows.append([])
        if token.type in ("td_open", "th_open"):
            rows[-1].append(following.content)
    judged = rows[1:12]
    assert {len(row) for row in rows[:12]} == {7}
    assert [row[1].replace("\\", "") for row in judged] == [
        b.metric for b in headline.by_urgency(data.verdict.budgets)
    ]
    assert sum("fail" in row[0] for row in judged) == 5
    assert {len(row) for row in rows[12:]} == {8}


def test_the_summary_says_why_a_measurement_carries_no_verdict() -> None:
    data = ten(outcome="inconclusive", evidence=["cpu: throttled half way"])
    assert "> ✗ No verdict: cpu: throttled half way\n" in markdown.render(data)
