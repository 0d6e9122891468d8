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
from pipeline.stage.tasks.sentence_embeddings import SentenceEmbeddings
from pipeline.store.store import Store
from pipeline.terms.interval import Interval
from pipeline.terms.vocabulary import Target
from stages.validate import Validate
from tests.flows import sweeps
from tests.project import Project
from tests.searches import lessons

TRUE = {"a": 2.0, "b": 1.0, "c": 4.0, "d": 3.0}


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return the bundles of each session; each runs at half the speed of the one before."""
    called: list[list[str]] = []

    def measure(bundles: dict[str, Path], *_: Any, **given: Any) -> Any:
        called.append(list(bundles))
        slower = 2.0 ** (len(called) - 1)
        times = {name: TRUE[name] * slower for name in bundles}
        return SimpleNamespace(
            percentile=lambda name, _: Interval(times[name], times[name] * 0.9, times[name] * 1.1),
            throttled=None,
        )

    monkeypatch.setattr(sweep_timing.latency, "measure", measure)
    return called


def clock(folder: Path) -> Clock:
    path = folder / sweep_timing.FILE
    return Clock(path, Target(), ["text"], None, Validate(), 0, lambda digest: folder / digest)


def test_later_sessions_are_scaled_by_their_reference(
    tmp_path: Path, sessions: list[list[str]]
) -> None:
    timer = clock(tmp_path)
    timer.also(["a", "b"])
    times = timer.also(["b", "c", "d"])
    assert sessions == [["a", "b"], ["a", "c", "d"]]
    assert {name: each.value for name, each in times.items()} == TRUE
    assert times["b"].low == pytest.approx(0.9)


def test_the_reference_s_own_interval_widens_those_of_later_sessions(
    tmp_path: Path, sessions: list[list[str]]
) -> None:
    """Against 200,000 draws of the three times, normal in their logarithms."""
    import numpy as np

    timer = clock(tmp_path)
    timer.also(["a"])
    found = timer.also(["c"])["c"]
    draws = np.random.default_rng(0).normal(0.0, np.log(1.1) / 1.96, (3, 200_000))
    drawn = 4.0 * np.exp(draws[0] + draws[1] - draws[2])
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert found.low == pytest.approx(low, rel=0.02)
    assert found.high == pytest.approx(high, rel=0.02)


def test_times_are_kept_after_each_session(
    tmp_path: Path, sessions: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_timing, "SESSION", 3)
    timer, whole = clock(tmp_path), sweep_timing.latency.measure

    def interrupted(*given: Any, **more: Any) -> Any:
        if sessions:
            raise KeyboardInterrupt
        return whole(*given, **more)

    monkeypatch.setattr(sweep_timing.latency, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        timer.together(["a", "b", "c", "d"])
    monkeypatch.setattr(sweep_timing.latency, "measure", whole)
    again = clock(tmp_path)
    again.read()
    again.together(["a", "b", "c", "d"])
    assert sessions == [["a", "b", "c"], ["a", "d"]]


def test_times_that_something_disturbed_are_taken_again_and_never_kept(
    tmp_path: Path, sessions: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first session is disturbed once, the second each time."""
    monkeypatch.setattr(sweep_timing, "SESSION", 3)
    whole, said = sweep_timing.latency.measure, list[str]()

    def measure(*given: Any, **more: Any) -> Any:
        timed = whole(*given, **more)
        timed.throttled = None if len(sessions) == 2 else "the CPU was busy"
        return timed

    monkeypatch.setattr(sweep_timing.latency, "measure", measure)
    first, second = ["a", "b", "c"], ["a", "d"]
    times = clock(tmp_path).together(["a", "b", "c", "d"], say=said.append)
    assert sessions == [first, first, second, second, second]
    assert times.keys() == TRUE.keys()
    assert "the CPU was busy; these times" in said[-1]
    again = clock(tmp_path)
    again.read()
    assert again.known.keys() == set(first)
    monkeypatch.setattr(sweep_timing.latency, "measure", whole)
    again.together(["a", "b", "c", "d"])
    assert sessions[5:] == [second]


def test_nothing_is_kept_if_the_reference_was_disturbed(
    tmp_path: Path, sessions: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sweep_timing.latency.measure

    def measure(*given: Any, **more: Any) -> Any:
        timed = whole(*given, **more)
        timed.throttled = "the CPU was busy" if len(sessions) <= 3 else None
        return timed

    monkeypatch.setattr(sweep_timing.latency, "measure", measure)
    timer = clock(tmp_path)
    timer.also(["a", "b"])
    timer.also(["c"])  # undisturbed, but scaled to the reference
    assert timer.doubtful == {"a", "b", "c"}
    again = clock(tmp_path)
    again.read()
    assert not again.known


def test_times_of_other_pairs_are_others(tmp_path: Path) -> None:
    one, other = clock(tmp_path), replace(clock(tmp_path), pairs=["another text"])
    assert one.key != other.key


def test_many_bundles_are_timed_in_several_sessions(
    tmp_path: Path, sessions: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_timing, "SESSION", 3)
    times = clock(tmp_path).together(["a", "b", "c", "d"])
    assert sessions == [["a", "b", "c"], ["a", "d"]]
    assert {name: each.value for name, each in times.items()} == TRUE


def test_what_was_timed_in_batches_is_timed_together_in_the_end_and_only_once(
    tmp_path: Path, sessions: list[list[str]]
) -> None:
    timer = clock(tmp_path)
    timer.also(["a"])
    timer.also(["b"])
    timer.together(["a", "b"])
    timer.together(["b", "a"])
    assert sessions == [["a"], ["a", "b"], ["a", "b"]]


def test_a_recipe_s_own_settings_and_rows_are_used_and_times_are_kept(
    project: Project, sessions: list[list[str]]
) -> None:
    sweeps.write(project)
    loaded = recipes.load(project.folder / "tiny.yaml")
    plan = Plan(loaded, Store(project.home / "store"))
    made = Clock.of(loaded, plan, project.folder, lambda digest: project.folder)
    assert (made.settings.processes, made.settings.seconds) == (2, 1)
    dev = set(plan.splits["dev"].texts)
    assert made.texts
    assert set(made.texts) <= dev
    made.together(["a", "b"])
    again = Clock.of(loaded, plan, project.folder, lambda digest: project.folder)
    assert again.together(["a", "b"]) == made.known
    assert len(sessions) == 1


def test_a_search_is_timed_by_its_queries(project: Project) -> None:
    sweeps.write(project)
    loaded = recipes.load(project.folder / "tiny.yaml")
    task = SentenceEmbeddings((), 8, ("query", "positive"))
    plan: Any = SimpleNamespace(task=task, rows={"dev": lessons()})
    made = Clock.of(loaded, plan, project.folder, lambda digest: project.folder)
    assert (sorted(made.texts), made.pairs) == (["dull", "warm"], None)


def test_rows_are_timed_though_no_model_has_answered_them(project: Project) -> None:
    sweeps.write(project, budgets="")
    recipe = project.folder / "tiny.yaml"
    recipe.write_text(
        recipe.read_text().replace("eval: eval.jsonl", "eval: eval.jsonl, label: null")
    )
    loaded = recipes.load(recipe)
    plan = Plan(loaded, Store(project.home / "store"))
    assert Clock.of(loaded, plan, project.folder, lambda digest: project.folder).texts


def test_a_session_has_as_many_bundles_as_the_memory(
    tmp_path: Path, sessions: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them is loaded twice."""
    for name in TRUE:
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.onnx").write_bytes(b"x" * 100)
    monkeypatch.setattr(sweep_timing.check_machine, "total_memory", lambda: 1100)
    clock(tmp_path).together(["a", "b", "c", "d"])
    assert sessions == [["a", "b"], ["a", "c"], ["a", "d"]]
    monkeypatch.setattr(sweep_timing.check_machine, "total_memory", lambda: 100)
    clock(tmp_path).together(["a", "b"])
    assert sessions[3:] == [["a"], ["a", "b"]]
