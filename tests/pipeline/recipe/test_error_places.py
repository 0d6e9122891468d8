"""An error names the file, the line and the key."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from rarefy.pipeline.recipe.yaml_file import Places
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.terms.recipe_parts import Target


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    rate: float


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    parts: list[Inner]


PLACES = Places("r.yaml", {("parts",): 2, ("parts", 0): 3, ("parts", 0, "rate"): 4})


def said(values: dict[str, object], places: Places = PLACES) -> str:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(values)
    return str(places.error(caught.value, Outer, ()))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"parts": [{"rate": "x"}]}, "r.yaml:4: parts[0].rate: Input should be a valid number"),
        ({"parts": "x"}, "r.yaml:2: parts: give a list, such as [one, two] (found 'x')"),
        ({"parts": [{}]}, "r.yaml:4: parts[0].rate: this key is required"),
        ({"parts": [{"rat": 1}]}, "r.yaml:3: parts[0].rat: unknown key, did you mean 'rate'?"),
        ({"part": []}, "r.yaml:1: part: unknown key, did you mean 'parts'?"),
    ],
)
def test_the_place_is_the_nearest_line_that_there_is(
    values: dict[str, object], message: str
) -> None:
    assert said(values).startswith(message)


def test_what_was_found_is_shown() -> None:
    assert said({"parts": [{"rate": "much"}]}).endswith("(found 'much')")


def test_a_recipe_made_in_python_has_keys_and_no_lines() -> None:
    assert said({"parts": [{}]}, Places("recipe 'a'", {})) == (
        "recipe 'a': parts[0].rate: this key is required"
    )


def test_a_budget_after_a_short_form_is_said_where_it_is_written() -> None:
    """The short form stands for three budgets, which are counted in pydantic's places."""
    lines = {("budgets",): 5, ("budgets", 0): 6, ("budgets", 0, "max_regression"): 6}
    lines |= {("budgets", 1): 7, ("budgets", 2): 8, ("budgets", 2, "metric"): 8}
    places = Places("r.yaml", lines)
    for counted, written, line in ((0, 0, 6), (2, 0, 6), (3, 1, 7), (4, 2, 8)):
        said = places.say(("budgets", counted, "agianst"), "unknown key")
        assert str(said) == f"r.yaml:{line}: budgets[{written}].agianst: unknown key"


@pytest.mark.parametrize("module", ["mine", "rarefy.stages.mine"])
def test_a_slip_in_code_of_others_is_an_error_of_its_place(module: str) -> None:
    places = Places("r.yaml", {("stages", 0): 3})

    def files(self: object, error: Exception) -> None:
        raise error

    stage = type("Mine", (), {"files": files, "__module__": module})()
    slip, refused = NameError("x"), RecipeError("rate: too large")
    said = RecipeError if module == "mine" else NameError
    with pytest.raises(said, match=r"x$" if said is NameError else r"^r\.yaml:3: .*NameError: x$"):
        places.call(("stages", 0), stage.files, slip)
    with pytest.raises(RecipeError, match=r"^rate: too large$"):
        places.call(("stages", 0), stage.files, refused)
    with pytest.raises(RecipeError, match=r"^r\.yaml:3: stages\[0\]: rate: too large$"):
        places.call(("stages", 0), stage.files, refused, check=True)


@pytest.mark.parametrize(
    ("target", "hinted"),
    [("gpu", "'openvino', did you mean 'cuda'? (found 'gpu')"), ("cou", "'openvino' (found")],
)
def test_what_others_call_a_value_is_answered_with_our_name(target: str, hinted: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Target.model_validate({"provider": target})
    assert hinted in str(PLACES.error(caught.value, Target, ()))
