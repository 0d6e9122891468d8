"""The contract of a stage, and what it gets."""

from __future__ import annotations

from typing import ClassVar

import pytest
from pydantic import BaseModel

from rarefy.pipeline.stage import Context, Policy, Stage
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.terms.errors import RecipeError


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


@pytest.mark.parametrize(
    ("member", "value", "advice"),
    [
        ("aside", True, r"Policy\(aside=…\)"),
        ("keeps", True, r"Policy\(keeps_files=…\)"),
        ("needs", {"teacher": Kind.CHECKPOINT}, r"Policy\(needs=…\)"),
        ("check_task", lambda self, task: None, r"check\(self, recipe\)"),
    ],
)
def test_a_member_that_stages_once_had_is_refused(member, value, advice):
    annotations = {} if callable(value) else {member: ClassVar[object]}
    with pytest.raises(
        TypeError, match=rf"^Old\.{member} is never (read|called); .*{advice}"
    ) as error:
        type(
            "Old", (Stage,), {"__module__": __name__, "__annotations__": annotations, member: value}
        )
    assert "\n" not in str(error.value)


def test_a_parameter_may_be_named_as_a_switch_is():
    class Clock(Stage):
        name: ClassVar[str] = "clock"
        policy: ClassVar[Policy] = Policy(timed=True)
        timed: bool = False

    assert Clock(timed=True).timed


def test_the_author_of_a_stage_meets_fourteen_members():
    members = {*vars(Stage), *Stage.__annotations__} - set(dir(BaseModel))
    public = {name for name in members if not name.startswith("_")}
    assert public == {
        "name",
        "version",
        "consumes",
        "produces",
        "reads",
        "libraries",
        "policy",
        "references",
        "files",
        "measures",
        "check",
        "follow_model",
        "environment",
        "run",
    }
