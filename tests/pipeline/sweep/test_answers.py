from __future__ import annotations

from rarefy.pipeline.sweep import answers as pareto
from rarefy.pipeline.sweep.file import Question
from tests.pipeline.sweep.factory import branch

BRANCHES = [
    branch("large", 0.90, 8.0, 80),
    branch("middle", 0.895, 3.0, 30),
    branch("worse", 0.85, 3.5, 40),
    branch("small", 0.82, 1.0, 9),
    branch("failed", 0.99, 0.1, 1, state="failed"),
    branch("untimed", 0.99, 0.1, 1, latency=None),
]


def names(question: dict[str, object]) -> str | None:
    found = pareto.answer(Question.model_validate(question), BRANCHES)
    return found.name if found else None


def test_the_front_has_what_no_other_beats() -> None:
    assert [one.name for one in pareto.front(BRANCHES)] == ["large", "middle", "small"]


def test_of_equals_one_stays_on_the_front() -> None:
    twins = [branch("a", 0.9, 1.0, 1), branch("b", 0.9, 1.0, 1)]

    assert [one.name for one in pareto.front(twins)] == ["a"]


def test_questions_are_answered_within_their_limits() -> None:
    assert names({"maximize": "accuracy"}) == "large"
    assert names({"maximize": "accuracy", "under": {"latency": "4 ms"}}) == "middle"
    assert names({"minimize": "latency", "within": "1 point"}) == "middle"
    assert names({"minimize": "size"}) == "small"
    assert names({"maximize": "accuracy", "under": {"latency": "0.5 ms"}}) is None
    assert names({"minimize": "size", "within": "1 point", "under": {"latency": "1 ms"}}) is None
