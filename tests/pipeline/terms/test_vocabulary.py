"""The terms of a recipe: data, targets and names."""

from __future__ import annotations

from pipeline.terms.vocabulary import NAME


def test_a_name_ends_where_it_ends():
    assert not NAME.fullmatch("tag\n")
    assert not NAME.fullmatch("a/b")
    assert NAME.fullmatch("a.b_c-9")
