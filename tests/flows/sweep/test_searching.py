"""A search: what it asks for, and that it goes on where it was."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from rarefy.pipeline.sweep.branch import Branch
from rarefy.pipeline.sweep.file import Range, SweepFile
from rarefy.pipeline.sweep.variants import Variant
from rarefy.pipeline.terms.interval import Interval

pytest.importorskip("optuna")

from rarefy.flows.sweep.searching import Trials

VARY: dict[str, Any] = {
    "distill.keep_layers": (1, 2, 3),
    "prune": ({"remove_neurons": "50 %"}, "off"),
    "distill.learning_rate": Range(low=1e-4, high=1e-2, log=True),
}


def trials(folder: Path, vary: dict[str, Any] = VARY, **search: Any) -> Trials:
    search = {"trials": 12, "goals": ("accuracy",)} | search
    return Trials(SweepFile(name="many", recipe="base.yaml", vary=vary, search=search), folder)


def done(one: Variant, accuracy: float, size: int = 1000) -> Branch:
    """Return the branch of a variant that has been measured."""
    return Branch(
        name=one.name,
        values=one.values,
        state="done",
        accuracy=Interval(accuracy, accuracy, accuracy),
        size=size,
        latency=Interval(1.0, 1.0, 1.0),
    )


def score(one: Variant) -> float:
    """A made-up accuracy whose best is at three layers and a learning rate of 0.001."""
    return (
        0.3 * one.values["distill.keep_layers"]
        - abs(math.log10(one.values["distill.learning_rate"]) + 3) / 10
    )


def searched(folder: Path, stop: int, **search: Any) -> list[Variant]:
    """Ask for variants until ``stop`` of them were, each answered at once."""
    study = trials(folder, **search)
    while len(study.variants) < stop and (one := study.ask()) is not None:
        study.tell(done(one, score(one)))
    return study.variants


def test_values_come_from_the_lists_and_ranges(tmp_path: Path) -> None:
    for one in searched(tmp_path, 12):
        assert one.values["distill.keep_layers"] in (1, 2, 3)
        assert one.values["prune"] in ({"remove_neurons": "50 %"}, "off")
        assert 1e-4 <= one.values["distill.learning_rate"] <= 1e-2


def test_a_search_that_was_interrupted_asks_for_the_same(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    whole = searched(folders[0], 12)
    searched(folders[1], 5)
    assert searched(folders[1], 12) == whole


def test_another_seed_asks_for_other_variants(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert searched(tmp_path, 6) != searched(tmp_path / "other", 6, seed=1)


def test_a_search_learns(tmp_path: Path) -> None:
    """Of the trials after the random ones, most are near the best; of random ones, a third."""
    variants = searched(tmp_path, 40, trials=40)
    late = [one.values["distill.keep_layers"] for one in variants[20:]]
    assert late.count(3) > len(late) / 2


def test_more_trials_go_on_and_other_goals_begin_anew(tmp_path: Path) -> None:
    first = searched(tmp_path, 12)
    assert searched(tmp_path, 15, trials=15)[:12] == first
    assert trials(tmp_path, goals=("size",)).variants == []
    assert trials(tmp_path).left == 0


def test_no_variant_is_asked_for_twice_and_a_finite_space_ends(tmp_path: Path) -> None:
    vary = {"distill.keep_layers": (1, 2, 3)}
    study = trials(tmp_path, vary, trials=20, goals=("accuracy", "size"))
    while (one := study.ask()) is not None:
        study.tell(done(one, 0.5))
    assert sorted(one.values["distill.keep_layers"] for one in study.variants) == [1, 2, 3]
    again = trials(tmp_path, vary, trials=20, goals=("accuracy", "size"))
    assert again.left == 0, "nothing is started for variants that are not there"


@pytest.mark.parametrize("goals", [("accuracy",), ("accuracy", "size")])
def test_all_trials_are_used_though_the_best_is_found_early(
    tmp_path: Path, goals: tuple[str, ...]
) -> None:
    vary: dict[str, Any] = {
        "distill.keep_layers": Range(low=1, high=3),
        "prune": ({"remove_neurons": "50 %"}, "off"),
        "quantize.mode": ("static", "dynamic", "search"),
    }
    study = trials(tmp_path, vary, trials=18, goals=goals)
    while (one := study.ask()) is not None:
        study.tell(done(one, 0.3 * one.values["distill.keep_layers"]))
    assert len({one.name for one in study.variants}) == 18


@pytest.mark.parametrize(
    ("vary", "left"),
    [
        ({"distill.keep_layers": (1, 2), "prune": ("off", {})}, 4),
        ({"distill.keep_layers": Range(low=2, high=4), "prune": ("off", {})}, 6),
        ({"distill.keep_layers": (1, 2), "distill.learning_rate": Range(low=0.1, high=0.2)}, 20),
    ],
)
def test_no_more_is_left_than_there_are_variants(
    tmp_path: Path, vary: dict[str, Any], left: int
) -> None:
    assert trials(tmp_path, vary, trials=20).left == left


@pytest.mark.parametrize("goals", [("accuracy",), ("accuracy", "latency", "size")])
def test_branches_that_run_failed_or_were_stopped_are_no_hindrance(
    tmp_path: Path, goals: tuple[str, ...]
) -> None:
    study = trials(tmp_path, goals=goals)
    states = ("done", "running", "failed", "stopped", "waiting", "done")
    for state in states:
        one = study.ask()
        assert one is not None
        study.tell(done(one, score(one)).model_copy(update={"state": state}))
    assert study.ask() is not None
    assert study.left == 12 - len(states) - 1
    assert len(study.measured) == 3, "those that are done or were stopped"


def test_a_branch_is_told_once_all_goals_are_known(tmp_path: Path) -> None:
    study = trials(tmp_path, goals=("accuracy", "latency"))
    one = study.ask()
    assert one is not None
    study.tell(done(one, 0.5).model_copy(update={"latency": None}))
    assert study.measured == set()
    for _ in range(2):
        study.tell(done(one, 0.5))
        assert study.measured == {one.name}


def test_a_study_that_begins_anew_asks_for_the_same(tmp_path: Path) -> None:
    variants = searched(tmp_path, 12)
    study = trials(tmp_path)
    study.restart()
    assert (study.variants, study.measured, study.left) == ([], set(), 12)
    assert searched(tmp_path, 12) == variants


def test_without_a_folder_nothing_is_written(tmp_path: Path) -> None:
    assert trials(tmp_path / "nowhere").ask() is not None
    assert list(tmp_path.iterdir()) == []


def test_the_number_of_trials_is_the_limit(tmp_path: Path) -> None:
    assert len(searched(tmp_path, 99, trials=3)) == 3
