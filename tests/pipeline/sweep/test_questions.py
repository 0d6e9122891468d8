from __future__ import annotations

import pytest
from pydantic import ValidationError

from rarefy.pipeline.sweep.questions import Question


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"most": "accuracy"}, "most-accurate"),
        ({"least": "latency", "within": "1 %"}, "fastest-within-1-point"),
        ({"least": "size", "within": 0.005}, "smallest-within-0.5-points"),
        (
            {"most": "accuracy", "under": {"size": "10 MB", "latency": "0.2 ms"}},
            "most-accurate-under-0.2-ms-under-10-mb",
        ),
        ({"most": "accuracy", "under": {"latency": "20000 s"}}, "most-accurate-under-20000000-ms"),
    ],
)
def test_a_question_has_a_name_for_files(given: dict[str, object], name: str) -> None:
    assert Question.model_validate(given).name == name


def test_a_question_has_words() -> None:
    asked = Question.model_validate({"least": "latency", "within": "1 %"})

    assert asked.words() == "the fastest within 1 point"


@pytest.mark.parametrize(
    "given",
    [{}, {"most": "accuracy", "least": "size"}, {"most": "accuracy", "within": "1 %"}],
)
def test_what_cannot_be_answered_is_no_question(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Question.model_validate(given)
