"""Canonical JSON: equal values give the same text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rarefy.pipeline.terms.digests import canonical_json, is_beginning, is_sha256

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


def reordered(value):
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@given(values)
def test_canonical_json_says_the_same_whatever_the_order_of_keys(value):
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(reordered(value)) == text
    assert canonical_json(json.loads(text)) == text


def test_canonical_json_has_no_nan():
    with pytest.raises(ValueError):
        canonical_json({"loss": float("nan")})


@pytest.mark.parametrize(
    ("text", "whole", "beginning"),
    [
        ("a" * 64, True, False),
        ("a" * 63, False, True),
        ("0123ab", False, True),
        ("0123a", False, False),
        ("A" * 64, False, False),
        ("a" * 64 + "\n", False, False),
        ("abcdef-", False, False),
    ],
)
def test_a_digest_and_its_beginning_are_recognized(text, whole, beginning):
    assert (is_sha256(text), is_beginning(text)) == (whole, beginning)
