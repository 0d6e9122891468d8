"""The contract of a stage, and what it gets."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from pipeline.stage import Context, Stage
from pipeline.store.artifact import Kind
from pipeline.terms.errors import RecipeError


def test_a_split_that_was_not_given_is_named(tmp_path):
    context = Context(None, {}, 0, "cpu", 1, tmp_path, tmp_path, {}, (), tmp_path)
    with pytest.raises(RecipeError, match=r"data\.eval: the stage needs this split"):
        context.split("eval")


def test_a_stage_without_run_says_so():
    class Lazy(Stage):
        name = "lazy"

    assert Lazy.consumes == {Kind.CHECKPOINT}
    with pytest.raises(NotImplementedError):
        Lazy().run(None, None)


def test_the_author_of_a_stage_meets_fifteen_members():
    members = {*vars(Stage), *Stage.__annotations__} - set(dir(BaseModel))
    public = {name for name in members if not name.startswith("_")}
    assert public == {
        "name",
        "version",
        "consumes",
        "produces",
        "reads",
        "libraries",
        "needs",
        "policy",
        "references",
        "files",
        "measures",
        "check",
        "follow_model",
        "environment",
        "run",
    }
