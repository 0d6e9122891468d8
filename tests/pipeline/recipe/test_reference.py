"""The reference of recipes that the command line prints, and of one stage."""

from __future__ import annotations

import pytest

from rarefy.pipeline.recipe import reference
from rarefy.pipeline.terms.errors import RecipeError


def test_the_whole_reference_has_every_stage_and_part():
    text = reference.markdown()
    assert text.startswith("# Every key of a recipe\n")
    for name, section in reference.stage_sections("###").items():
        assert section in text, name
    for heading in ("## The recipe", "## `data`", "## An entry of `budgets`"):
        assert f"\n{heading}\n" in text


def test_a_divergence_is_of_tasks_whose_answers_are_probabilities():
    """A budget on it is refused in the others (``rarefy.pipeline.run.plan.check_budgets``)."""
    (row,) = (line for line in reference.markdown().splitlines() if line.startswith("| `kl`"))
    assert row.endswith("| `multi-label-classification`, `text-classification` |")


def test_a_stage_has_its_description_its_bounds_and_its_defaults():
    section = reference.markdown("quantize")
    assert section.startswith("## `quantize`\n")
    assert "| `precision` | `int8`, `fp16` | `int8` |" in section
    assert "| `seconds` | number > 0, ≤ 86400 | `600` |" in section


def test_an_unknown_stage_is_answered_with_the_nearest_name():
    with pytest.raises(RecipeError, match="did you mean 'quantize'"):
        reference.markdown("quantise")
