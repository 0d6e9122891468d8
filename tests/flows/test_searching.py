"""A search: what it asks for, and that it goes on where it was."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from flows import searching
from flows.searching import Trials
from pipeline.sweep.branch import TRIALS, Branch, StepRow
from pipeline.sweep.sweep_file import Range, Search
from pipeline.sweep.variants import Variant
from pipeline.terms.errors import IntegrityError, ProviderError
from pipeline.terms.interval import Interval

pytest.importorskip("optuna")

VARY: dict[str, Any] = {
    "distill.layers": (1, 2, 3),
    "prune": ({"neurons": "50 %"}, "off"),
    "distill.learning_rate": Range(low=1e-4, high=1e-2, log=True),
}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    searching.check()


def trials(folder: Path, **search: Any) -> Trials:
    return Trials.open(folder, Search(**({"trials": 12, "goals": ("accuracy",)} | search)), VARY)


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
    import math

    return (
        0.3 * one.values["distill.layers"]
        - abs(math.log10(one.values["distill.learning_rate"]) + 3) / 10
    )


def searched(folder: Path, stop: int, known: dict[str, Branch], **search: Any) -> list[Variant]:
    """Ask for variants until ``stop`` of them were, each answered at once."""
    asked = trials(folder, **search)
    while len(asked.asked) < stop and (one := asked.ask(known)) is not None:
        known[one.name] = done(one, score(one))
    return asked.asked


def test_values_come_from_the_lists_and_ranges(tmp_path: Path) -> None:
    for one in searched(tmp_path, 12, {}):
        assert one.values["distill.layers"] in (1, 2, 3)
        assert one.values["prune"] in ({"neurons": "50 %"}, "off")
        assert 1e-4 <= one.values["distill.learning_rate"] <= 1e-2


def test_a_search_that_was_interrupted_asks_for_the_same(tmp_path: Path) -> None:
    whole = searched(tmp_path, 12, {})
    (tmp_path / "again").mkdir()
    known: dict[str, Branch] = {}
    searched(tmp_path / "again", 5, known)
    assert searched(tmp_path / "again", 12, known) == whole


def test_another_seed_asks_for_other_variants(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert searched(tmp_path, 6, {}) != searched(tmp_path / "other", 6, {}, seed=1)


def test_a_search_learns(tmp_path: Path) -> None:
    """Of the trials after the random ones, most are near the best; of random ones, a third."""
    asked = searched(tmp_path, 40, {}, trials=40)
    late = [one.values["distill.layers"] for one in asked[20:]]
    assert late.count(3) > len(late) / 2


def test_no_variant_is_asked_for_twice_and_a_finite_space_ends(tmp_path: Path) -> None:
    vary = {"distill.layers": (1, 2, 3)}
    asked = Trials.open(tmp_path, Search(trials=20, goals=("accuracy", "size")), vary)
    known: dict[str, Branch] = {}
    while (one := asked.ask(known)) is not None:
        known[one.name] = done(one, 0.5)
    assert sorted(one.values["distill.layers"] for one in asked.asked) == [1, 2, 3]
    again = Trials.open(tmp_path, Search(trials=20, goals=("accuracy", "size")), vary)
    assert again.left == 0, "nothing is started for variants that are not there"


@pytest.mark.parametrize("goals", [("accuracy",), ("accuracy", "size")])
def test_all_trials_are_used_though_the_best_is_found_early(
    tmp_path: Path, goals: tuple[str, ...]
) -> None:
    vary: dict[str, Any] = {
        "distill.layers": Range(low=1, high=3),
        "prune": ({"neurons": "50 %"}, "off"),
        "quantize.mode": ("static", "dynamic", "search"),
    }
    asked = Trials.open(tmp_path, Search(trials=18, goals=goals), vary)
    known: dict[str, Branch] = {}
    while (one := asked.ask(known)) is not None:
        known[one.name] = done(one, 0.3 * one.values["distill.layers"])
    assert len(known) == len(asked.asked) == asked.different == 18


def test_fields_in_another_order_make_no_other_variants(tmp_path: Path) -> None:
    vary, search = {"distill.layers": (1, 2), "prune": ("off", "on")}, Search(trials=9)
    first = Trials.open(tmp_path, search, vary).ask({})
    again = Trials.open(tmp_path, search, dict(reversed(vary.items())))
    while again.ask({}) is not None:
        pass
    assert first is not None
    assert again.asked[0].values == first.values
    assert len({one.name for one in again.asked}) == 4
    assert len({tuple(sorted(one.values.items())) for one in again.asked}) == 4


@pytest.mark.parametrize(
    ("vary", "left"),
    [
        ({"distill.layers": (1, 2), "prune": ("off", {})}, 4),
        ({"distill.layers": Range(low=2, high=4), "prune": ("off", {})}, 6),
        ({"distill.layers": (1, 2), "distill.learning_rate": Range(low=0.1, high=0.2)}, 20),
    ],
)
def test_no_more_is_left_than_there_are_variants(
    tmp_path: Path, vary: dict[str, Any], left: int
) -> None:
    assert Trials.open(tmp_path, Search(trials=20, goals=("accuracy",)), vary).left == left


@pytest.mark.parametrize("goals", [("accuracy",), ("accuracy", "latency", "size")])
def test_branches_that_run_failed_or_were_stopped_are_no_hindrance(
    tmp_path: Path, goals: tuple[str, ...]
) -> None:
    asked = trials(tmp_path, goals=goals)
    known: dict[str, Branch] = {}
    states = ("done", "running", "failed", "stopped", "waiting", "done")
    for state in states:
        one = asked.ask(known)
        assert one is not None
        known[one.name] = done(one, score(one)).model_copy(update={"state": state})
    assert asked.ask(known) is not None
    assert asked.left == 12 - len(states) - 1


@pytest.mark.parametrize(("goal", "guided"), [("accuracy", True), ("size", False)])
def test_what_stopped_branches_reached_guides_only_a_search_for_accuracy(
    tmp_path: Path, goal: str, guided: bool
) -> None:
    """Optuna takes it for the goal, and of sizes the smallest is the best."""
    asked: list[list[Variant]] = []
    for sign in (1, -1):
        folder, known = tmp_path / str(sign), dict[str, Branch]()
        folder.mkdir()
        search = trials(folder, goals=(goal,))
        while (one := search.ask(known)) is not None:
            reached = Interval(*[sign * score(one)] * 3)
            step = StepRow(id="a", digest="0" * 64, cached=False, seconds=1.0, accuracy=reached)
            known[one.name] = Branch(
                name=one.name, values=one.values, state="stopped", steps=[step]
            )
        asked.append(search.asked)
    assert (asked[0] != asked[1]) is guided


def test_the_number_of_trials_is_the_limit(tmp_path: Path) -> None:
    assert len(searched(tmp_path, 99, {}, trials=3)) == 3


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / TRIALS).write_text('{"trials": [1]}')
    with pytest.raises(IntegrityError, match=r"trials\.json: the file is damaged"):
        trials(tmp_path)


def test_without_optuna_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ProviderError, match=r"pip install 'rarefy\[sweep\]'") as raised:
        searching.check()
    assert raised.value.exit_code == 5
