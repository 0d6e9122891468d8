"""The answers of a sweep: exit codes, the table, and what a chosen recipe's run adds."""

from __future__ import annotations

from typing import Any

import pytest

from flows.display import as_text
from flows.sweep_answers import Swept
from pipeline.sweep.record import Answer, SweepRecord
from pipeline.terms.interval import Interval
from tests.pipeline.sweep import factory


def swept(*answers: Answer) -> Swept:
    record = SweepRecord(
        name="many",
        created="2026-11-27T12:00:00+00:00",
        command="rarefy sweep sweep.yaml",
        threads=1,
        device="cpu",
        recipe="base",
        task="text-classification",
        target="cpu",
        vary={"distill.layers": [1, 2]},
        branches=[
            factory.branch("large", 0.9, 8.0, 80_000_000),
            factory.branch("small", 0.8, 1.0, 9),
        ],
        answers=list(answers),
        seconds=10.0,
        wall=6.0,
        machine={},
    )
    return Swept(record, {"page": "sweep.html"})


def answer(branch: str | None, outcome: str | None, **given: Any) -> Answer:
    return Answer(name="q", question="the fastest", branch=branch, outcome=outcome, **given)


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([answer("large", "pass"), answer("small", "pass")], 0),
        ([answer("large", None)], 0),
        ([answer("large", "pass"), answer(None, None)], 4),
        ([answer("large", "inconclusive")], 4),
        ([answer(None, None), answer("small", "fail")], 3),
    ],
)
def test_the_exit_code_is_that_of_the_worst_answer(answers: list[Answer], code: int) -> None:
    assert swept(*answers).exit_code == code


def test_the_table_has_a_row_for_each_question() -> None:
    found = answer(
        "small", "pass", metric="accuracy", accuracy=Interval(0.77, 0.7, 0.8), recipe="q.yaml"
    )
    text = as_text(swept(found, answer(None, None)).table()).replace("\u00a0", " ")
    first, second = text.splitlines()[1:]
    for words in ("the fastest", "small", "80.0 %", "1 ms", "77.0 %", "pass", "q.yaml"):
        assert words in first
    assert second.split() == ["the", "fastest", "none"]


def test_json_has_the_front_and_the_paths() -> None:
    told = swept(answer("small", "pass")).as_json()
    assert (told["exit_code"], told["page"]) == (0, "sweep.html")
    assert told["front"] == ["large", "small"]
    assert told["schema"] == "rarefy.sweep/1"
