"""Parse quantities as people write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from rarefy.pipeline.terms.recipe_parts import Quantity, parse_points, parse_quantity

UNITS = {"": 1, "%": 1 / 100, "x": 1, "×": 1, "ms": 1, "s": 1000, "us": 1 / 1000, "µs": 1 / 1000}
UNITS |= {"B": 1, "kB": 1000, "MB": 10**6, "GB": 10**9, "KiB": 1024, "MiB": 1024**2}


@given(
    st.floats(min_value=0, max_value=1e6, allow_nan=False).map(lambda value: round(value, 6)),
    st.sampled_from(sorted(UNITS)),
    st.sampled_from(["", " ", "  "]),
)
def test_a_number_and_its_unit_read_in_any_spelling(number, unit, space):
    for text in (f"{number}{space}{unit}", f" {number}{space}{unit.upper()} "):
        assert math.isclose(
            parse_quantity(text), number * UNITS[unit], rel_tol=1e-12, abs_tol=1e-15
        )


@given(st.text(max_size=12))
def test_any_other_text_is_refused_or_is_a_number(text):
    try:
        found = parse_quantity(text)
    except ValueError:
        return
    assert isinstance(found, float)


@pytest.mark.parametrize(
    ("text", "value"),
    [("3 %", 0.03), ("20MB", 20e6), ("5 ms", 5.0), ("2 s", 2000.0), ("5x", 5.0), ("1e-2", 0.01)],
)
def test_the_design_s_examples(text, value):
    assert parse_quantity(text) == pytest.approx(value)


@pytest.mark.parametrize("wrong", ["", "fast", "3 bananas", "1,5 %", "5 ms ms", "--3", True, "nan"])
def test_what_is_no_quantity_is_refused(wrong):
    with pytest.raises(ValueError):
        parse_quantity(wrong)


@pytest.mark.parametrize(
    ("text", "value"), [("3 points", 0.03), ("1 point", 0.01), (" 0.5Points", 0.005), (0.03, 0.03)]
)
def test_a_difference_is_in_percentage_points(text, value):
    assert parse_points(text) == value


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("3 %", "write 3 points$"),
        ("1%", "write 1 point$"),
        ("0.03", "'0.03' is not a number of percentage points; write it like '3 points'"),
        ("5 ms", "'5 ms' is not a number of percentage points"),
        ("three points", "'three points' is not a number"),
        (True, "not true or false"),
    ],
)
def test_a_share_is_no_difference(wrong, says):
    with pytest.raises(ValueError, match=says):
        parse_points(wrong)


@pytest.mark.parametrize("wrong", ["1e999", float("inf"), float("nan")])
def test_a_bound_is_finite(wrong):
    class Bound(BaseModel):
        model_config = ConfigDict(allow_inf_nan=False)
        max: Quantity

    with pytest.raises(ValidationError):
        Bound(max=wrong)
