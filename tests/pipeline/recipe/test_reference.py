"""The reference of recipes in docs/reference/recipe.md, and of one stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from rarefy.pipeline.recipe import reference
from rarefy.pipeline.terms.errors import RecipeError

PAGE = Path(__file__).parents[3] / "docs/reference/recipe.md"


def test_the_page_is_what_the_code_says():
    assert PAGE.read_text() == reference.markdown(), (
        "rarefy recipe reference > docs/reference/recipe.md"
    )


def test_a_divergence_is_of_tasks_whose_answers_are_probabilities():
    """A budget on it is refused in the others (``rarefy.pipeline.run.plan.check_budgets``)."""
    (row,) = (line for line in reference.markdown().splitlines() if line.startswith("| `kl`"))
    assert row.endswith("| `multi-label-classification`, `text-classification` |")


def test_a_stage_has_its_description_its_bounds_and_its_defaults():
    section = reference.markdown("quantize")
    assert section.startswith("## `quantize`\n")
    assert "| `precision` | `int8`, `fp16` | `int8` |" in section
    assert "| `percentile` | number > 50, ≤ 100 | `99.99` |" in section


def test_an_unknown_stage_is_answered_with_the_nearest_name():
    with pytest.raises(RecipeError, match="did you mean 'quantize'"):
        reference.markdown("quantise")
