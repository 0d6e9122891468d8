from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.sweep.branch import SETTINGS, TRIALS, Folder, hopeless
from pipeline.sweep.sweep_file import Stop
from pipeline.terms.errors import IntegrityError, RecipeError
from tests.pipeline.sweep import factory

POINTS = (Stop(after="distill", points="5 %"),)
LEAST = (Stop(after="distill", min_accuracy="70 %"),)


def test_what_is_known_of_branches_survives(tmp_path: Path) -> None:
    folder, sweep = Folder(tmp_path / "out"), factory.load(tmp_path)
    folder.open(sweep)
    kept = [factory.branch("a", 0.8, 2.0, 10), factory.branch("b", 0.7, 1.0, 5, state="failed")]

    for branch in kept:
        folder.keep(branch)
    folder.open(sweep)

    assert folder.branches() == kept


def test_a_folder_of_other_values_is_refused(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "out")
    folder.open(factory.load(tmp_path))
    folder.open(factory.load(tmp_path, vary={"seed": [0, 1, 2]}))  # nothing has run yet
    folder.keep(factory.branch("a", 0.8, 2.0, 10))

    with pytest.raises(RecipeError, match="another sweep"):
        folder.open(factory.load(tmp_path, vary={"seed": [0, 1]}))


def test_another_order_of_vary_is_refused_since_its_branches_would_have_other_names(
    tmp_path: Path,
) -> None:
    folder = Folder(tmp_path / "out")
    folder.open(factory.load(tmp_path))
    folder.keep(factory.branch("layers-1-heads-25pct", 0.8, 2.0, 10))
    turned = factory.load(tmp_path, vary=dict(reversed(factory.VARY.items())))

    with pytest.raises(RecipeError, match=r"in the order distill\.layers, slim\.heads; put"):
        folder.open(turned)
    folder.open(factory.load(tmp_path))


def test_what_a_sweep_began_with_is_forgotten_if_it_was_edited_before_a_branch_began(
    tmp_path: Path,
) -> None:
    folder = Folder(tmp_path / "out")
    folder.open(factory.load(tmp_path))
    notes = [tmp_path / "out" / name for name in (TRIALS, SETTINGS)]
    for path in notes:
        path.write_text("{}")

    folder.open(factory.load(tmp_path))
    assert all(path.exists() for path in notes)

    folder.open(factory.load(tmp_path, vary={"seed": [0, 1]}))
    assert not any(path.exists() for path in notes)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "out")
    folder.open(factory.load(tmp_path))
    (tmp_path / "out" / "branches" / "a.json").write_text("{")

    with pytest.raises(IntegrityError, match=r"a\.json: the file is damaged"):
        folder.branches()


def test_a_branch_far_below_the_best_is_hopeless_and_one_near_it_is_not() -> None:
    best = factory.branch("best", 0.9, 1.0, 1)

    assert "more than 5 points below the best (90.0 %)" in str(
        hopeless(POINTS, factory.branch("a", 0.84, 1.0, 1), [best])
    ).replace("\u00a0", " ")
    assert hopeless(POINTS, factory.branch("a", 0.86, 1.0, 1), [best]) is None
    assert hopeless(POINTS, best, [best]) is None
    one = (Stop(after="distill", points="1 %"),)
    said = hopeless(one, factory.branch("a", 0.84, 1.0, 1), [best])
    assert "more than 1 point below the best" in str(said)


def test_a_branch_below_the_least_is_hopeless_without_others() -> None:
    assert hopeless(LEAST, factory.branch("a", 0.69, 1.0, 1), []) is not None
    assert hopeless(LEAST, factory.branch("a", 0.71, 1.0, 1), []) is None


def test_only_the_step_of_a_stop_is_judged() -> None:
    stops = (Stop(after="quantize", min_accuracy="70 %"),)

    assert hopeless(stops, factory.branch("a", 0.1, 1.0, 1), []) is None
