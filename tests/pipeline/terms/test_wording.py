"""Format numbers for people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from rarefy.pipeline.terms import wording
from rarefy.pipeline.terms.interval import Interval


@pytest.mark.parametrize(
    ("value", "padded", "short"),
    [
        (0, "0.00", "0"),
        (0.0421, "0.0421", "0.0421"),
        (4.2, "4.20", "4.2"),
        (-15.44, "−15.4", "−15.4"),
        (421, "421", "421"),
        (100, "100", "100"),
        (12345.6, "12,346", "12,346"),
        (3e-9, "0.000000", "0"),
    ],
)
def test_three_significant_digits_and_never_an_exponent(value, padded, short):
    assert wording.significant(value) == padded
    assert wording.number(value) == short


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (512, "B", "512 B"),
        (15_400_000, "B", "15.4 MB"),
        (2e12, "B", "2 TB"),
        (22_714_000, "", "22.7 M"),
        (7, "", "7"),
        (0.9704, "%", "97.0%"),
        (0.97, "%", "97.0%"),
        (4.2, "ms", "4.2 ms"),
        (4.93, "×", "4.93×"),
    ],
)
def test_a_quantity_has_its_unit(value, unit, words):
    assert wording.quantity(value, unit) == words


def test_bounds_are_shown_unless_they_are_the_value_itself():
    assert wording.bounds(Interval(0.97, 0.951, 0.99), "%") == "97.0% [95.1, 99.0]"
    assert wording.bounds(Interval(4.93, 4.7, 5.125), "×") == "4.93× [4.70, 5.12]"
    assert wording.bounds(Interval(2e6, 2e6, 2e6), "B") == "2 MB"
    assert wording.bounds(Interval(0.012, 0.005, 0.019), "points") == "1.20 points [0.50, 1.90]"


def test_what_rounds_to_nothing_has_no_minus():
    assert wording.signed(-0.00001) == "+0.00"


@pytest.mark.parametrize(
    ("limit", "unit", "words"),
    [
        (0.9865, "%", "98.65%"),
        (0.97, "%", "97%"),
        (0.0325 * 0.01, "%", "0.0325%"),
        (20_040_000, "B", "20.04 MB"),
        (20e6, "B", "20 MB"),
        (5.004, "ms", "5.004 ms"),
        (4.5, "×", "4.5×"),
        (0.1 + 0.2, "", "0.3"),
    ],
)
def test_a_limit_is_shown_as_it_was_asked_for(limit, unit, words):
    assert wording.required(limit, unit) == words


def test_a_value_that_misses_a_limit_does_not_read_as_the_limit():
    assert wording.quantity(20_040_000, "B", 20e6) == "20.04 MB"
    assert wording.quantity(5.0004, "ms", 5) == "5.0004 ms"
    assert wording.quantity(4.9996, "×", 5) == "4.9996×"
    assert wording.bounds(Interval(0.98, 0.969996, 0.99), "%", 0.97) == "98.0% [96.9996, 99.0]"
    assert wording.quantity(19e6, "B", 20e6) == "19 MB", "without need, three digits"
    assert wording.quantity(20e6, "B", 20e6) == "20 MB"
    assert wording.quantity(0.05 + 1e-17, "%", 0.05) == "5.0%"


@given(st.floats(0.001, 1e6), st.floats(-0.02, 0.02), st.sampled_from(["%", "×", "ms", "B", ""]))
def test_both_sides_of_a_comparison_read_the_same_only_if_they_nearly_are(limit, apart, unit):
    value = limit * (1 + apart)
    same = wording.quantity(value, unit, limit) == wording.required(limit, unit)
    assert not same or abs(value - limit) < max(2e-6 * limit, {"B": 1.0, "%": 1e-6}.get(unit, 1e-9))


@given(st.floats(0.01, 99), st.floats(0.9, 1.1), st.sampled_from(["%", "ms", "×"]))
def test_no_rounding_carries_a_value_beyond_its_limit(asked, share, unit):
    """4.996 ms is within 4.998 ms, which "5 ms" is not."""
    limit = round(asked, 3)
    value = limit * share
    shown, required = (
        float(text.rstrip(" %ms×"))
        for text in (wording.quantity(value, unit, limit), wording.required(limit, unit))
    )
    assert (shown - required) * (value - limit) >= 0, (shown, required)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.42, "0.4 s"),
        (12, "12 s"),
        (200, "3 min 20 s"),
        (120, "2 min"),
        (7500, "2 h 5 min"),
        (266_400, "3 d 2 h"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds, words):
    assert wording.duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.1, "about 5 s"),
        (8, "about 10 s"),
        (57, "about 55 s"),
        (58, "about 1 min"),
        (227, "about 4 min"),
        (3601, "about 1.0 h"),
    ],
)
def test_a_rough_duration_has_one_unit(seconds, words):
    assert wording.about(seconds) == words


def test_one_thing_has_no_s():
    assert [wording.plural(n, "row") for n in (0, 1, 1234)] == ["0 rows", "1 row", "1,234 rows"]


@given(st.floats(1e-4, 1e6))
def test_a_number_is_read_back_to_three_digits_and_has_no_exponent(value: float) -> None:
    text = wording.number(value)
    assert "e" not in text
    assert float(text.replace(",", "")) == pytest.approx(value, rel=0.01)


def test_a_count_has_its_noun_in_the_plural():
    assert [wording.plural(1, noun) for noun in ("row", "query")] == ["1 row", "1 query"]
    assert wording.plural(1234, "row") == "1,234 rows"
    assert [wording.plural(0, noun) for noun in ("query", "day")] == ["0 queries", "0 days"]


def test_a_text_is_shown_as_it_is_and_stays_on_one_line() -> None:
    text = "a | b <img src=x> `c` **d** [e](f) ~~g~~ \\ &amp; #h _i_"
    shown = MarkdownIt("gfm-like", {"linkify": False}).parseInline(wording.escape(text))[0].children
    assert shown is not None
    assert {token.type for token in shown} <= {"text", "text_special"}
    assert "".join(token.content for token in shown) == text
    assert wording.escape("a\n| b") == "a \\| b"


def test_a_password_in_an_address_is_not_shown() -> None:
    assert "secret" not in wording.escape("https://user:secret@host/path")
