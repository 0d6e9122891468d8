from __future__ import annotations

import pytest
from pydantic import ValidationError

from rarefy.pipeline.sweep.questions import Question


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"maximize": "accuracy"}, "most-accurate"),
        ({"minimize": "latency", "within": "1 point"}, "fastest-within-1-point"),
        ({"minimize": "size", "within": 0.005}, "smallest-within-0.5-points"),
        (
            {"maximize": "accuracy", "under": {"size": "10 MB", "latency": "0.2 ms"}},
            "most-accurate-under-0.2-ms-under-10-mb",
        ),
        (
            {"maximize": "accuracy", "under": {"latency": "20000 s"}},
            "most-accurate-under-20000000-ms",
        ),
    ],
)
def test_a_question_has_a_name_for_files(given: dict[str, object], name: str) -> None:
    assert Question.model_validate(given).name == name


def test_a_question_has_words() -> None:
    asked = Question.model_validate({"minimize": "latency", "within": "1 point"})

    assert asked.words() == "the fastest within 1 point"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"maximize": "accuracy", "minimize": "size"},
        {"maximize": "accuracy", "within": "1 point"},
    ],
)
def test_what_cannot_be_answered_is_no_question(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Question.model_validate(given)
