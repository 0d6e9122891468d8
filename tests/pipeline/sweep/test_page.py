from __future__ import annotations

import re
from html import unescape

from rarefy.pipeline.sweep import page
from rarefy.pipeline.sweep.branch import Branch
from rarefy.pipeline.sweep.record import Answer, SweepRecord
from rarefy.pipeline.terms.interval import Interval
from tests.pipeline.sweep.factory import branch


def record(**given: object) -> SweepRecord:
    branches = [
        branch("large", 0.90, 8.0, 80_000_000, values={"distill.keep_layers": 6}),
        branch("small", 0.82, 1.0, 9_000_000, values={"distill.keep_layers": 1}),
        branch("beaten", 0.80, 2.0, 10_000_000, values={"distill.keep_layers": 2}),
        branch(
            "hopeless",
            0.5,
            1.0,
            1,
            values={"distill.keep_layers": 3},
            state="stopped",
            why="50 % after distill",
            latency=None,
        ),
    ]
    answers = [
        Answer(
            name="fastest",
            question="the fastest within 10 points",
            branch="small",
            recipe="fastest.yaml",
            report="fastest/report.html",
            accuracy=Interval(0.81, 0.79, 0.83),
            outcome="fail",
            missed=["accuracy is <less> than asked"],
        ),
        Answer(name="most", question="the most accurate under 0.1 ms"),
    ]
    values: dict[str, object] = {
        "name": "many",
        "command": "rarefy sweep sweep.yaml",
        "threads": 1,
        "device": "cpu",
        "recipe": "base.yaml",
        "target": "cpu, 1 thread",
        "vary": {"distill.keep_layers": [1, 2, 3, 6]},
        "branches": branches,
        "answers": answers,
        "seconds": 8.0,
        "machine": {},
    }
    return SweepRecord.model_validate(values | given)


def text(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split()).replace("\u00a0", " ")


def test_the_page_answers_the_questions_first() -> None:
    shown = text(page.render(record()))

    assert "The fastest within 10 points distill.keep_layers = 1" in shown
    assert "accuracy, eval rows 81.0% [79.0%, 83.0%]" in shown
    assert "The most accurate under 0.1 ms No branch meets this." in shown
    assert shown.index("fastest within") < shown.index("All branches")


def test_branches_are_listed_the_front_first_and_with_their_reasons() -> None:
    html = page.render(record())
    order = [
        html.index(f"<code>{name}</code>") for name in ("large", "small", "beaten", "hopeless")
    ]

    assert order == sorted(order)
    assert "50 % after distill" in text(html)
    assert "<less>" not in html
    assert "&lt;less&gt;" in html


def test_only_the_answers_are_named_in_the_figure() -> None:
    figure = re.search(r"<svg.*?</svg>", page.render(record()), re.DOTALL)

    assert figure is not None
    labels = re.findall(r"<text[^>]*>([^<]*)</text>", figure[0])
    assert "small" in labels
    assert "beaten" not in labels


def test_what_each_value_gave_is_over_complete_branches() -> None:
    shown = text(page.render(record()))

    assert "distill.keep_layers 6 1 90.0%" in shown
    assert "distill.keep_layers 3 1" not in shown


def test_the_banner_says_how_the_sweep_ended():
    shown = text(page.render(record()))
    banner = (
        "✗ Fail 1 of 2 questions answered. Budgets are missed by: the fastest within 10 points."
    )
    assert banner in shown
    answered = record().answers[:1]
    met = [answer.model_copy(update={"outcome": "pass"}) for answer in answered]
    assert "✓ Pass 1 of 1 question answered. Their budgets" in text(
        page.render(record(answers=met))
    )
    unjudged = [answer.model_copy(update={"outcome": None}) for answer in answered]
    assert "○ Not judged" in text(page.render(record(answers=unjudged)))


def test_a_phone_gets_a_chart_of_its_own():
    html = page.render(record())
    assert html.count('id="sweep-wide-title"') == html.count('id="sweep-narrow-title"') == 1


def test_a_sweep_without_a_finished_branch_has_a_page() -> None:
    waiting = Branch(name="a", values={"distill.keep_layers": 1})

    html = page.render(record(branches=[waiting], answers=[]))

    assert "1 waiting" in html
    assert "<svg" not in html
