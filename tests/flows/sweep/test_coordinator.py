"""The coordinator: what it hands out, and that it goes on where it was."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console

from rarefy.flows.console.display import Display
from rarefy.flows.sweep.branches_on import Inline
from rarefy.flows.sweep.coordinator import Sweeping
from rarefy.flows.sweep.workers import Where
from rarefy.pipeline.run import import_model
from rarefy.pipeline.run.plan.plan import Plan
from rarefy.pipeline.sweep.branch import Branch
from rarefy.pipeline.tasks import load as data
from rarefy.pipeline.terms.errors import ProviderError, RecipeError
from rarefy.pipeline.terms.interval import Interval
from tests.flows import sweeps
from tests.project import Project, open_project, write_project, write_rows
from tests.templates import make_once

VARY = "head.note: [a, b, c]"


class Fake:
    """Workers that answer at once, as ``answer`` says; they run nothing."""

    def __init__(self, answer: Callable[[dict[str, Any]], dict[str, Any]], size: int = 1) -> None:
        self.answer, self.size = answer, size
        self.given: list[dict[str, Any]] = []

    def submit(self, given: dict[str, Any]) -> Future[dict[str, Any]]:
        self.given.append(given)
        future: Future[dict[str, Any]] = Future()
        try:
            future.set_result(self.answer(given))
        except Exception as error:
            future.set_exception(error)
        return future


def done(given: dict[str, Any], accuracy: float = 0.8, state: Any = "done") -> dict[str, Any]:
    return Branch(
        name=given["name"],
        values=given["values"],
        state=state,
        metric="accuracy",
        accuracy=Interval(accuracy, accuracy, accuracy),
        size=10,
    ).model_dump(mode="json", by_alias=True)


def opened(project: Project, path: Path, **changes: Any) -> Sweeping:
    console = Console(file=io.StringIO())
    return Sweeping(sweeps.job(project, path, **changes).opened(None), Display(console))


def test_every_combination_is_handed_out_once(project: Project) -> None:
    going, workers = opened(project, sweeps.write(project, VARY)), Fake(done)
    going.run(workers)
    assert [given["values"]["head.note"] for given in workers.given] == ["a", "b", "c"]
    assert {branch.state for branch in going.branches.values()} == {"done"}
    assert not going.left
    environments = workers.given[0]["environments"]
    assert (environments["head"], environments["export"]["provider"]) == ({}, "cpu")


def ran(project: Project, path: Path) -> dict[str, Branch]:
    """Run the branches in this process; return what they became."""
    going = opened(project, path)
    going.run(Inline())
    return going.branches


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a project whose sweep has run once, to be copied."""

    def sweep(folder: Path) -> None:
        write_project(folder)
        with pytest.MonkeyPatch.context() as patch:
            project = open_project(folder, patch)
            ran(project, sweeps.write(project, VARY))

    return make_once(tmp_path_factory, "swept", sweep)


@pytest.fixture
def swept(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose three branches are done."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return open_project(tmp_path, monkeypatch)


def left(project: Project, path: Path) -> list[str]:
    """Return the names of the branches that the same command would run now."""
    return [b.name for b in opened(project, path).branches.values() if b.state == "waiting"]


@pytest.mark.slow
def test_the_same_command_goes_on_with_what_is_left(swept: Project) -> None:
    """Branches that are done stay so; those that failed or were killed run."""
    project, path = swept, swept.folder / "sweep.yaml"
    made = opened(project, path).branches
    assert left(project, path) == []
    folder = opened(project, path).folder
    folder.write(made["note-b"].model_copy(update={"state": "failed"}))
    folder.write(made["note-c"].model_copy(update={"state": "running"}))
    again, workers = opened(project, path), Fake(done)
    assert again.left
    again.run(workers)
    assert [given["values"]["head.note"] for given in workers.given] == ["b", "c"]


@pytest.mark.slow
def test_a_stopped_branch_stays_so_though_its_rival_comes_later_in_the_grid(
    swept: Project,
) -> None:
    project = swept
    path = sweeps.write(project, VARY, "stop: [{after: head, points: 5}]")
    made, folder = opened(project, path).branches, opened(project, path).folder
    for name, reached in {"note-a": 0.5, "note-b": 0.9}.items():
        steps = [step.model_copy() for step in made[name].steps]
        at = [step.id for step in steps].index("head")
        steps[at] = steps[at].model_copy(update={"accuracy": Interval(reached, reached, reached)})
        state, steps = ("stopped", steps[: at + 1]) if name == "note-a" else ("done", steps)
        folder.write(made[name].model_copy(update={"state": state, "steps": steps}))
    assert left(project, path) == []
    path = sweeps.write(project, VARY, "stop: [{after: head, points: 50}]")
    assert left(project, path) == ["note-a"], "the rule has changed"


@pytest.mark.slow
def test_branches_of_other_data_run_again(project: Project) -> None:
    """Numbers of before would stand beside those of now, or be said of another bundle."""
    path = sweeps.write(project, "head.note: [a, b]")
    before = ran(project, path)
    write_rows(project.folder / "train.jsonl", 40, 5)
    assert left(project, path) == ["note-a", "note-b"]
    again = opened(project, path)
    seen: list[list[Branch]] = []
    again.run(Fake(lambda given: seen.append(again.folder.branches()) or done(given)))  # type: ignore[func-returns-value]
    assert [branch.steps for branch in seen[0]] == [[], []], "none is judged by what it was"
    after = ran(project, path)
    assert {b.bundle for b in before.values()}.isdisjoint(b.bundle for b in after.values())
    assert left(project, path) == []


@pytest.mark.slow
def test_branches_that_were_scored_on_other_rows_run_again(project: Project) -> None:
    """No step need read the development rows."""
    write_rows(project.folder / "dev.jsonl", 10, 3)
    path = sweeps.write(project)
    recipe = project.folder / "tiny.yaml"
    text = recipe.read_text().replace("train: train.jsonl", "train: train.jsonl, dev: dev.jsonl")
    recipe.write_text(text)
    ran(project, path)
    assert left(project, path) == []
    write_rows(project.folder / "dev.jsonl", 10, 4)
    assert left(project, path) == ["note-a", "note-b"]


@pytest.mark.slow
def test_a_branch_whose_bundle_was_deleted_runs_again(swept: Project) -> None:
    path = swept.folder / "sweep.yaml"
    sweep = opened(swept, path)
    bundle = sweep.branches["note-b"].bundle
    shutil.rmtree(sweep.store.directory(str(bundle)))
    assert left(swept, path) == ["note-b"]


@pytest.mark.slow
def test_with_a_shared_store_a_branch_is_over_if_its_bundle_is_there(project: Project) -> None:
    path, url = sweeps.write(project), (project.folder / "shared").as_uri()
    opened(project, path, store=url).run(Inline())
    shutil.rmtree(project.home / "store")
    assert not opened(project, path, store=url).left
    assert opened(project, path).left


def test_a_branch_that_is_given_up_has_failed(project: Project) -> None:
    going = opened(project, sweeps.write(project))

    def answer(given: dict[str, Any]) -> dict[str, Any]:
        if given["values"]["head.note"] == "a":
            raise RuntimeError("out of memory")
        return done(given)

    workers = Fake(answer)
    going.run(workers)
    failed = going.branches["note-a"]
    assert (failed.state, failed.why) == ("failed", "given up: RuntimeError: out of memory")
    assert going.folder.branch("note-a") == failed
    assert len(workers.given) == 2


def test_workers_apart_get_one_branch_first_and_no_path_of_ours(project: Project) -> None:
    (project.folder / "quickstages.py").write_text(
        (project.folder / "modules" / "quickstages.py").read_text()
    )
    url = (project.folder / "shared").as_uri()
    where = Where("dask", 2, "tcp://127.0.0.1:8786")
    path = sweeps.write(project, "export.samples: [dev, none]")
    going = opened(project, path, where=where, store=url)
    running: list[int] = []
    step = {"id": "model", "digest": "0" * 64, "cached": False, "seconds": 1.0}

    def answer(given: dict[str, Any]) -> dict[str, Any]:
        states = [branch.state for branch in going.branches.values()]
        running.append(states.count("running"))
        return done(given) | {"steps": [step]}

    workers = Fake(answer, size=2)
    going.run(workers)
    assert running == [1, 1], "the second finds in the store what the first has made"
    for given in workers.given:
        assert (given["base"], given["home"], given["folder"]) == (None, None, None)
        assert "budgets: []" in given["text"]  # the tags that they name are of our store
        assert given["source"].startswith(url)
    assert [len(given["others"]) for given in workers.given] == [0, 1]


def test_a_branch_without_a_bundle_is_not_timed(project: Project) -> None:
    going = opened(project, sweeps.write(project, VARY))
    going.run(Fake(done))  # these have none, as if 'export' were off
    going.time()
    assert {branch.latency for branch in going.branches.values()} == {None}


def test_a_search_asks_until_its_trials_are_used(project: Project) -> None:
    pytest.importorskip("optuna")
    search = "search: {trials: 4, goals: [accuracy, size]}"
    path = sweeps.write(project, "head.scale: {low: 0.1, high: 2.0}", search)
    going, workers = opened(project, path), Fake(done)
    going.run(workers)
    assert len(workers.given) == 4
    assert len({given["name"] for given in workers.given}) == 4
    again = opened(project, path)
    assert again.trials is not None
    assert again.trials.left == 0


@pytest.mark.slow
def test_a_search_of_other_data_begins_a_new_study_of_the_same_variants(project: Project) -> None:
    pytest.importorskip("optuna")
    search = "search: {trials: 3, goals: [accuracy, size]}"
    path = sweeps.write(project, "head.scale: {low: 0.1, high: 2.0}", search)
    before = opened(project, path)
    before.run(Inline())
    assert before.trials is not None
    assert before.trials.measured == set(before.branches)
    write_rows(project.folder / "train.jsonl", 40, 5)
    going, workers = opened(project, path), Fake(done)
    going.run(workers)
    assert {given["name"] for given in workers.given} == set(before.branches)


@pytest.mark.slow
def test_other_goals_begin_a_study_that_finds_the_branches_of_the_first(project: Project) -> None:
    pytest.importorskip("optuna")
    vary = "head.scale: {low: 0.1, high: 2.0}"
    opened(project, sweeps.write(project, vary, "search: {trials: 2, goals: [accuracy]}")).run(
        Inline()
    )
    path = sweeps.write(project, vary, "search: {trials: 3, goals: [size]}")
    going, workers = opened(project, path), Fake(done)
    going.run(workers)
    assert len(going.branches) == 3
    assert len(workers.given) == 1, "the first two are asked for again, and are done"


def test_a_search_for_speed_is_timed_between_batches(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    calls: list[int] = []

    class Clock:
        times: ClassVar[dict[str, Interval]] = {}

        def time(self, digests: list[str], *_: object) -> None:
            calls.append(len(digests))
            self.times |= {digest: Interval(1.0, 0.9, 1.1) for digest in digests}

    search = "search: {trials: 6, goals: [accuracy, latency]}"
    path = sweeps.write(project, "head.scale: {low: 0.1, high: 2.0}", search)
    going = opened(project, path)
    vars(going)["clock"] = Clock()
    monkeypatch.setattr(going.store, "use", lambda *_: True)
    going.run(Fake(lambda given: done(given) | {"bundle": given["name"]}, size=2))
    assert calls == [4, 6], "after four branches, and after the last two"
    assert going.trials is not None
    assert len(going.trials.measured) == 6


def test_the_rows_that_are_timed_need_only_the_model_of_a_branch(project: Project) -> None:
    path = sweeps.write(project, "model: [encoder]")
    recipe = project.folder / "tiny.yaml"
    recipe.write_text(recipe.read_text().replace("model: encoder", "model: nowhere"))
    going = opened(project, path)
    going.run(Fake(lambda given: done(given) | {"bundle": "0" * 64}))
    assert going.clock.texts


def test_planning_many_branches_reads_data_and_weights_once(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sweeps.write(project, VARY)
    hashed: list[Path] = []
    whole = data.file_sha256
    for reader in (data, import_model):
        monkeypatch.setattr(reader, "file_sha256", lambda path: hashed.append(path) or whole(path))  # type: ignore[func-returns-value]
    opened(project, path)
    names = [path.name for path in hashed]
    assert names[:2] == ["train.jsonl", "eval.jsonl"]
    assert "model.safetensors" in names
    assert len(names) == len(set(names))


def test_a_value_that_fits_no_branch_is_said_before_anything_runs(project: Project) -> None:
    with pytest.raises(RecipeError, match="scales: unknown key, did you mean 'scale'"):
        opened(project, sweeps.write(project, "head.scales: [1.0]"))


PRUNED = ("quickstages:Head", "prune: {remove_neurons: 50 %}", "export", sweeps.VALIDATE)


def test_a_combination_that_does_not_fit_is_a_failed_branch(project: Project) -> None:
    """Without neurons and heads there is nothing to remove; each alone is fine."""
    vary = f"prune.remove_neurons: [0 %, 50 %]\n{' ' * 10}prune.remove_heads: [0 %, 50 %]"
    going = opened(project, sweeps.write(project, vary, stages=PRUNED))
    failed, *others = going.branches.values()
    assert failed.state == "failed"
    assert "nothing to remove" in str(failed.why)
    assert [branch.state for branch in others] == ["waiting"] * 3
    assert going.folder.branches() == [], "nothing is written before it runs"
    going.run(Fake(done))
    assert going.folder.branch(failed.name) == failed


def test_if_no_combination_fits_one_line_says_why(project: Project) -> None:
    path = sweeps.write(project)
    (project.folder / "train.jsonl").unlink()
    with pytest.raises(RecipeError, match=r"train\.jsonl"):
        opened(project, path)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is too small for the steps with the note b."""

    def check(plan: Plan, *_: object) -> None:
        if "note: b" in plan.loaded.text:
            raise ProviderError("head: needs at least 9 TB of memory")

    monkeypatch.setattr("rarefy.pipeline.run.checks.check_size", check)


def test_a_branch_that_the_machine_is_too_small_for_stops_no_other(
    project: Project, small: None
) -> None:
    going, workers = opened(project, sweeps.write(project, VARY)), Fake(done)
    going.run(workers)
    assert [given["values"]["head.note"] for given in workers.given] == ["a", "c"]
    failed = going.branches["note-b"]
    assert (failed.state, failed.why) == ("failed", "head: needs at least 9 TB of memory")
    with pytest.raises(ProviderError, match="head: needs") as raised:
        opened(project, sweeps.write(project, "head.note: [b]"), out=project.folder / "other")
    assert raised.value.exit_code == 5


def test_a_search_goes_on_after_what_the_machine_is_too_small_for(
    project: Project, small: None
) -> None:
    """Also when it is given again: the trial was noted before it was planned."""
    pytest.importorskip("optuna")
    path = sweeps.write(project, VARY, "search: {trials: 3, goals: [accuracy]}")
    opened(project, path).run(Fake(done))
    again = opened(project, path)
    assert again.trials is not None
    assert {one.values["head.note"] for one in again.trials.variants} == {"a", "b", "c"}
    assert again.branches["note-b"].state == "failed"


@pytest.mark.parametrize("more", [(), ("search: {trials: 2, goals: [accuracy]}",)])
def test_a_sweep_without_bundles_is_refused_before_anything_runs(
    project: Project, more: tuple[str, ...]
) -> None:
    if more:
        pytest.importorskip("optuna")
    path = sweeps.write(
        project, "head.note: [a, b]", *more, stages=("quickstages:Head",), budgets=""
    )
    with pytest.raises(RecipeError, match=r"no branch makes a bundle.* add the stage 'export'"):
        opened(project, path)
