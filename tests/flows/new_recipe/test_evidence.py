"""Whether the words of a text predict a column."""

from __future__ import annotations

import random
from typing import Any

import pytest

from rarefy.flows.new_recipe import evidence
from tests.models import sentences


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_values_that_have_nothing_to_do_with_the_words_are_not_predicted(share: float) -> None:
    texts, _ = sentences(300)
    for seed in range(20):
        draw = random.Random(seed)
        values = ["often" if draw.random() < share else "seldom" for _ in texts]
        deviations = evidence.deviations(texts, values)
        assert deviations is not None
        assert deviations < 4, "20 draws of a normal distribution"


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_values_that_the_words_tell_are_predicted_also_with_some_that_are_wrong(
    noise: float,
) -> None:
    texts, labels = sentences(200)
    draw = random.Random(0)
    values = [label if draw.random() >= noise else 1 - label for label in labels]
    deviations = evidence.deviations(texts, values)
    assert deviations is not None
    assert deviations > evidence.SURE


def test_of_few_rows_nothing_is_said_and_repetitions_are_one_row() -> None:
    texts, labels = sentences(evidence.FEWEST - 1)
    assert evidence.deviations(texts, labels) is None
    assert evidence.deviations(texts * 3, labels * 3) is None
    more: list[Any] = [*texts, "a fine film", None, "a film without a value"]
    assert evidence.deviations(more, [*labels, 1, 1, None]) is not None
    assert evidence.deviations(["one text"] * 90, ["a", "b", "c"] * 30) is None
