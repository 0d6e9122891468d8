"""Times of a sweep's bundles: together, or in sessions that compare by a reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import sweep_timing
from flows.sweep_timing import Clock
from pipeline.recipe import recipe as recipes
from pipeline.run.plan import Plan
from pipeline.stage.tasks.sentence_embeddings import SENTENCE_EMBEDDINGS
from pipeline.store.store import Store
from pipeline.terms.interval import Interval
from pipeline.terms.vocabulary import Target
from stages.validate import Validate
from tests.flows import sweeps
from tests.project import Project
from tests.searches import lessons

TRUE = {"a": 2.0, "b": 1.0, "c": 4.0, "d": 3.0}


class Machine:
    """Stands for the measurement: notes the bundles of each session, each at half the speed.

    ``disturbed``: the sessions, counted from 1, that something slows down.
    """

    def __init__(self, *disturbed: int) -> None:
        self.sessions: list[list[str]] = []
        self.disturbed = disturbed

    def __call__(self, bundles: dict[str, Path], *_: Any, **options: Any) -> Any:
        self.sessions.append(list(bundles))
        slower = 2.0 ** (len(self.sessions) - 1)
        times = {name: TRUE[name] * slower for name in bundles}
        throttled = "the CPU was busy" if len(self.sessions) in self.disturbed else None
        return SimpleNamespace(
            percentile=lambda name, _: Interval(times[name], times[name] * 0.9, times[name] * 1.1),
            throttled=throttled,
        )


@pytest.fixture
def machine() -> Machine:
    return Machine()


def clock(folder: Path, machine: Any = None) -> Clock:
    for name in TRUE:
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "model.onnx").write_bytes(b"0" * 100)
    return Clock(
        path=folder / sweep_timing.FILE,
        target=Target(),
        texts=["text"],
        pairs=None,
        settings=Validate(),
        seed=0,
        directory=lambda digest: folder / digest,
        measure=machine or Machine(),
    )


def values(timer: Clock) -> dict[str, float]:
    return {name: time.value for name, time in timer.times.items()}


def test_later_sessions_are_scaled_by_their_reference(tmp_path: Path, machine: Machine) -> None:
    timer = clock(tmp_path, machine)
    timer.time(["a", "b"])
    timer.time(["b", "c", "d"])
    assert machine.sessions == [["a", "b"], ["a", "c", "d"]]
    assert values(timer) == TRUE
    assert timer.times["b"].low == pytest.approx(0.9)


def test_the_reference_s_own_interval_widens_those_of_later_sessions(
    tmp_path: Path, machine: Machine
) -> None:
    """Against 200,000 draws of the three times, normal in their logarithms."""
    import numpy as np

    timer = clock(tmp_path, machine)
    timer.time(["a"])
    timer.time(["c"])
    draws = np.random.default_rng(0).normal(0.0, np.log(1.1) / 1.96, (3, 200_000))
    drawn = 4.0 * np.exp(draws[0] + draws[1] - draws[2])
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert timer.times["c"].low == pytest.approx(low, rel=0.02)
    assert timer.times["c"].high == pytest.approx(high, rel=0.02)


def test_times_are_kept_after_each_session(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_timing, "SESSION", 3)

    def interrupted(*given: Any, **options: Any) -> Any:
        if machine.sessions:
            raise KeyboardInterrupt
        return machine(*given, **options)

    with pytest.raises(KeyboardInterrupt):
        clock(tmp_path, interrupted).time(["a", "b", "c", "d"])
    clock(tmp_path, machine).time(["a", "b", "c", "d"])
    assert machine.sessions == [["a", "b", "c"], ["a", "d"]]


def test_times_that_something_disturbed_are_taken_again_and_never_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first session is disturbed once, the second each time."""
    monkeypatch.setattr(sweep_timing, "SESSION", 3)
    machine, lines = Machine(1, 3, 4, 5), list[str]()
    first, second = ["a", "b", "c"], ["a", "d"]
    timer = clock(tmp_path, machine)
    timer.time(["a", "b", "c", "d"], say=lines.append)
    assert machine.sessions == [first, first, second, second, second]
    assert timer.times.keys() == TRUE.keys()
    assert timer.doubtful.keys() == {"d"}
    assert "the CPU was busy; these times" in lines[-1]
    again = clock(tmp_path, machine)
    assert again.certain.keys() == set(first)
    again.time(["a", "b", "c", "d"])
    assert machine.sessions[5:] == [second]


def test_nothing_is_scaled_to_a_bundle_whose_time_is_in_doubt(tmp_path: Path) -> None:
    machine = Machine(1, 2, 3)
    timer = clock(tmp_path, machine)
    timer.time(["a", "b"])
    timer.time(["c"])
    assert machine.sessions[3:] == [["c"]]
    assert (timer.doubtful.keys(), timer.certain.keys()) == ({"a", "b"}, {"c"})
    assert clock(tmp_path).certain.keys() == {"c"}


def test_times_of_other_pairs_are_others(tmp_path: Path) -> None:
    one, other = clock(tmp_path), replace(clock(tmp_path), pairs=["another text"])
    assert one.key != other.key


def test_many_bundles_are_timed_in_several_sessions_and_only_once(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_timing, "SESSION", 3)
    timer = clock(tmp_path, machine)
    timer.time(["a", "b", "c", "d"])
    timer.time(["d", "c", "b", "a"])
    assert machine.sessions == [["a", "b", "c"], ["a", "d"]]
    assert values(timer) == TRUE


def test_a_recipe_s_own_settings_and_rows_are_used(project: Project) -> None:
    sweeps.write(project)
    loaded = recipes.load(project.folder / "tiny.yaml")
    plan = Plan(loaded, Store(project.home / "store"))
    timer = Clock.for_recipe(loaded, plan, project.folder, lambda digest: project.folder)
    assert (timer.settings.processes, timer.settings.seconds) == (2, 1)
    dev = set(plan.splits["dev"].texts)
    assert timer.texts
    assert set(timer.texts) <= dev


def test_a_search_is_timed_by_its_queries(project: Project) -> None:
    sweeps.write(project)
    loaded = recipes.load(project.folder / "tiny.yaml")
    task = SENTENCE_EMBEDDINGS.bind((), 8, ("query", "positive"))
    plan: Any = SimpleNamespace(task=task, rows={"dev": lessons()})
    timer = Clock.for_recipe(loaded, plan, project.folder, lambda digest: project.folder)
    assert (sorted(timer.texts), timer.pairs) == (["dull", "warm"], None)


def test_rows_are_timed_though_no_model_has_answered_them(project: Project) -> None:
    sweeps.write(project, budgets="")
    recipe = project.folder / "tiny.yaml"
    recipe.write_text(
        recipe.read_text().replace("eval: eval.jsonl", "eval: eval.jsonl, label: null")
    )
    loaded = recipes.load(recipe)
    plan = Plan(loaded, Store(project.home / "store"))
    assert Clock.for_recipe(loaded, plan, project.folder, lambda digest: project.folder).texts
