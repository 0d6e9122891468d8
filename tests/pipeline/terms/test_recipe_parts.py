"""The terms of a recipe: data, targets and names."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rarefy.pipeline.terms.recipe_parts import NAME, Target


def test_a_name_ends_where_it_ends():
    assert not NAME.fullmatch("tag\n")
    assert not NAME.fullmatch("a/b")
    assert NAME.fullmatch("a.b_c-9")


def test_only_a_cpu_has_an_instruction_set_to_choose():
    assert Target().isa == "avx2"
    assert Target(isa="vnni").isa == "vnni"
    with pytest.raises(ValidationError, match="'isa' applies to the cpu provider"):
        Target(provider="cuda", isa="vnni")
    with pytest.raises(ValidationError, match="'isa' applies to the cpu provider"):
        Target(provider="openvino", isa="vnni")
