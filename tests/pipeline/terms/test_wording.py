"""Numbers with their units, as a verdict says them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.terms.interval import Interval
from pipeline.terms.wording import bounds, number, quantity


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.824, "%", "82.4 %"),
        (5.2, "×", "5.20×"),
        (4.2, "ms", "4.2 ms"),
        (15_400_000, "B", "15.4 MB"),
        (999, "B", "999 B"),
        (2.5e9, "B", "2.5 GB"),
        (22_700_000, "", "22.7 M"),
    ],
)
def test_a_value_has_its_unit(value: float, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


@given(st.floats(1e-4, 1e6))
def test_a_number_is_read_back_to_three_digits_and_has_no_exponent(value: float) -> None:
    text = number(value)
    assert "e" not in text
    assert float(text) == pytest.approx(value, rel=0.01)


def test_an_interval_is_told_unless_the_value_is_exact() -> None:
    assert bounds(Interval(4.93, 4.71, 5.12), "×") == "4.93× [4.71, 5.12]"
    assert bounds(Interval(0.1, 0.05, 0.15), "%") == "10 % [5, 15]"
    assert bounds(Interval(20e6, 20e6, 20e6), "B") == "20 MB"
