from __future__ import annotations

from pathlib import Path

import pytest

from rarefy.pipeline.sweep.branch import Folder, hopeless
from rarefy.pipeline.sweep.file import Stop
from rarefy.pipeline.terms.errors import IntegrityError
from tests.pipeline.sweep import factory

POINTS = (Stop(after="distill", points=5),)
LEAST = (Stop(after="distill", min_accuracy="70 %"),)


def test_what_is_known_of_branches_survives(tmp_path: Path) -> None:
    branches = [factory.branch("a", 0.8, 2.0, 10), factory.branch("b", 0.7, 1.0, 5, state="failed")]
    assert Folder(tmp_path / "out").branches() == []
    for branch in branches:
        Folder(tmp_path / "out").write(branch)
    (tmp_path / "out" / "branches" / ".a.json-being-written.json").write_text("{")
    assert Folder(tmp_path / "out").branches() == branches


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "out")
    folder.write(factory.branch("a", 0.8, 2.0, 10))
    (tmp_path / "out" / "branches" / "a.json").write_text("{")

    with pytest.raises(IntegrityError, match=r"a\.json: the file is damaged"):
        folder.branches()


def test_a_branch_far_below_the_best_is_hopeless_and_one_near_it_is_not() -> None:
    best = factory.branch("best", 0.9, 1.0, 1)

    worse = factory.branch("a", 0.84, 1.0, 1)
    reason = str(hopeless(POINTS, worse, [best])).replace("\u00a0", " ")
    assert reason == "84.0% after distill; at least 85.0% is within 5 points of the best"
    assert hopeless(POINTS, factory.branch("a", 0.86, 1.0, 1), [best]) is None
    assert hopeless(POINTS, best, [best]) is None
    one = (Stop(after="distill", points=1),)
    assert str(hopeless(one, worse, [best])).endswith("is within 1 point of the best")


def test_a_branch_below_the_least_is_hopeless_without_others() -> None:
    assert hopeless(LEAST, factory.branch("a", 0.69, 1.0, 1), []) is not None
    assert hopeless(LEAST, factory.branch("a", 0.71, 1.0, 1), []) is None


def test_only_the_step_of_a_stop_is_judged() -> None:
    stops = (Stop(after="quantize", min_accuracy="70 %"),)

    assert hopeless(stops, factory.branch("a", 0.1, 1.0, 1), []) is None


def test_seconds_are_those_of_steps_that_were_made() -> None:
    made = factory.branch("a", 0.8, 2.0, 10)
    found = [step.model_copy(update={"cached": True}) for step in made.steps]
    assert made.seconds == 2.0
    assert made.model_copy(update={"steps": found}).seconds == 0.0
