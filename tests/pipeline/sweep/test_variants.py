from __future__ import annotations

from pathlib import Path

from rarefy.pipeline.sweep import variants
from rarefy.pipeline.terms.recipe_parts import NAME
from tests.pipeline.sweep import factory


def test_a_grid_has_every_combination_and_neighbours_differ_from_an_early_step_on(
    tmp_path: Path,
) -> None:
    names = [one.name for one in variants.grid(factory.load(tmp_path))]

    assert names == [
        *("keep_layers-1-remove_heads-25pct", "keep_layers-2-remove_heads-25pct"),
        *("keep_layers-1-remove_heads-50pct", "keep_layers-2-remove_heads-50pct"),
    ]


def test_names_follow_from_the_values_alone_and_are_valid() -> None:
    long = {f"stage{number}.parameter": 0.1234567 for number in range(9)}
    odd = {"quantize": {"scheme": "static"}}
    other = {"quantize": {"scheme": "dynamic"}}

    names = [variants.variant(values).name for values in (long, odd, other, {"a.x": "A b"})]

    assert len(set(names)) == 4
    assert all(NAME.fullmatch(name) for name in names)
    assert variants.variant(dict(long)).name == names[0]


def test_fields_of_one_name_do_not_make_one_name_of_two_variants() -> None:
    one, other = {"a.rate": 1, "b.rate": 2}, {"b.rate": 1, "a.rate": 2}

    assert variants.variant(one).name != variants.variant(other).name


def test_values_that_look_alike_have_different_names() -> None:
    values = ["a", "A", "1", 1, "true", True, "50 %", "50pct", 0.5, "0.5"]

    names = [variants.variant({"s.x": value}).name for value in values]

    assert len(set(names)) == len(values) - 1  # 50 % and 50pct: no field takes both


def test_a_variants_recipe_has_its_values_and_may_have_another_name(tmp_path: Path) -> None:
    sweep = factory.load(tmp_path)
    one = variants.grid(sweep)[2]

    made = variants.recipe(sweep, {**one.values, "name": "other"})

    assert made.recipe.name == "other"
    assert made.step("distill").stage.model_dump()["keep_layers"] == 1
    assert made.step("slim").stage.model_dump()["remove_heads"] == 0.5
