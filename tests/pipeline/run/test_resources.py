"""A plan's resources: disk, memory, and time estimated from earlier runs on this machine."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.run import resources
from pipeline.run.plan import Plan
from pipeline.run.resources import Needed
from pipeline.store.artifact import Artifact
from pipeline.terms.errors import ProviderError, RarefyError
from stages import footprint
from tests.conftest import Workshop, labelled_rows
from tests.searches import SEARCH, write_search

TUNE: dict[str, Any] = {"finetune": {"epochs": 1}}


def needed(plan: Plan) -> dict[str, Needed]:
    return resources.of(plan, plan.steps())


def check(plan: Plan) -> None:
    steps = plan.steps()
    resources.check(plan, steps, resources.of(plan, steps))


def say(artifact: Artifact, **changes: Any) -> None:
    """Change the record of how an artifact was made."""
    path = artifact.directory / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def say_scored(workshop: Workshop, **changes: Any) -> None:
    """Change the records of how long scoring took."""
    for path in (workshop.store.root / "notes").glob("scoring-*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def tuned(workshop: Workshop) -> Artifact:
    """A training recorded as ten seconds for one epoch over 24 rows, and scored at once."""
    artifact = workshop.run(TUNE)["finetune"].artifact
    say(artifact, seconds=10.0)
    say_scored(workshop, seconds=0.0)
    return artifact


def test_before_the_first_run_sizes_are_known_and_times_are_not(workshop):
    chain = (TUNE, {"distill": {"layers": 1}}, "quantize", "export", "validate")
    found = needed(workshop.open(*chain).plan)
    assert set(found) == {"model", "finetune", "distill", "quantize", "export", "validate"}
    for name, step in found.items():
        assert step.resources.disk is not None, name
        assert step.resources.memory is not None, name
        assert step.seconds is None, name
    parameters = found["finetune"].resources.shape.parameters
    assert found["finetune"].resources.disk.least == 16 * parameters
    assert found["distill"].resources.shape.parameters < parameters


def test_the_store_s_manifests_are_read_once_and_only_if_a_step_must_run(
    workshop, tuned, monkeypatch
):
    read, whole = [], resources._manifests
    monkeypatch.setattr(resources, "_manifests", lambda plan: read.append(1) or whole(plan))
    assert needed(workshop.open(TUNE).plan) == {}
    assert read == []
    assert len(needed(workshop.open(TUNE, "quantize", "export").plan)) == 2
    assert read == [1]


def test_lengths_that_were_counted_narrow_what_is_said(workshop):
    chain = ({"finetune": {}}, {"distill": {"layers": 1, "hidden_weight": 1}})
    before = needed(workshop.open(*chain).plan)["distill"].resources
    run = workshop.open(*chain)
    run.execute("model")
    counted = needed(workshop.open(*chain).plan)["distill"].resources
    assert before.disk.least < counted.disk.least <= counted.disk.most < before.disk.most
    texts = [json.loads(line)["text"] for line in (workshop.folder / "train.jsonl").open()]
    counts = run.plan.row_lengths.tokens  # the development split was cut from the file
    assert counts["train"] + counts["dev"] == sum(len(text.split()) + 2 for text in texts)


def test_a_stage_that_says_nothing_is_unknown(workshop):
    """The next stage may get a model as large as the input, or a smaller one."""
    found = needed(workshop.open("quick:Head", "quantize").plan)
    assert (found["head"].resources.disk, found["head"].resources.memory) == (None, None)
    after = found["quantize"].resources.disk
    assert (after.least, after.most) == (0, 4 * found["model"].resources.shape.parameters)


def test_the_time_of_an_earlier_run_is_scaled_by_epochs_and_rows(workshop, tuned):
    assert needed(workshop.open(TUNE).plan) == {}
    longer = needed(workshop.open({"finetune": {"epochs": 3}}).plan)["finetune"]
    assert longer.seconds == pytest.approx(30.0, rel=0.01)
    faster = needed(workshop.open({"finetune": {"epochs": 1, "learning_rate": 1e-3}}).plan)
    assert faster["finetune"].seconds == pytest.approx(10.0, rel=0.01)
    workshop.write_rows("train.jsonl", labelled_rows(48, seed=2))
    longer = needed(workshop.open(TUNE).plan)["finetune"]
    assert longer.seconds == pytest.approx(20.0, rel=0.05)  # the development split took some


def test_the_time_of_a_step_includes_scoring_what_it_makes(workshop, tuned):
    say_scored(workshop, seconds=4.0)
    longer = needed(workshop.open({"finetune": {"epochs": 3}}).plan)["finetune"]
    assert longer.seconds == pytest.approx(34.0, rel=0.01)
    workshop.write_rows("eval.jsonl", labelled_rows(36, seed=3))
    longer = needed(workshop.open({"finetune": {"epochs": 3}}).plan)["finetune"]
    assert longer.seconds == pytest.approx(42.0, rel=0.01)


def test_a_cached_step_has_a_time_if_it_is_to_be_scored_again(workshop, tuned):
    def to_score() -> dict[str, float | None]:
        plan = workshop.open(TUNE).plan
        steps = plan.steps()
        assert all(step.cached for step in steps)
        return {name: need.seconds for name, need in resources.of_scoring(plan, steps).items()}

    say_scored(workshop, seconds=4.0)
    assert to_score() == {}
    workshop.write_rows("eval.jsonl", labelled_rows(24, seed=3))
    assert to_score() == {"finetune": pytest.approx(8.0, rel=0.01)}
    say_scored(workshop, host="elsewhere")
    assert to_score() == {"finetune": None}


@pytest.mark.parametrize(
    "changes", [{"host": "elsewhere"}, {"device": "cuda"}, {"threads": 64}, {"resumed": True}]
)
def test_a_run_elsewhere_or_in_parts_tells_no_time(workshop, tuned, changes):
    say(tuned, **changes)
    found = needed(workshop.open({"finetune": {"epochs": 3}}).plan)
    assert found["finetune"].seconds is None


def test_another_kind_of_input_tells_no_time(workshop, tuned):
    found = needed(workshop.open(TUNE, {**TUNE, "as": "again"}).plan)
    assert found["again"].seconds is None


def test_a_stage_that_does_not_read_its_input_tells_its_time_beside_any(workshop):
    made = workshop.run("augment")["augment"].artifact
    say(made, seconds=10.0)
    stages = ("quick:Head", {"augment": {"spans": 14}})  # then 18 texts of each row, before 9
    found = needed(workshop.open(*stages).plan)["augment"]
    assert found.seconds == pytest.approx(20.0, rel=0.01)


def test_a_killed_stage_that_goes_on_is_recorded_as_resumed(workshop):
    run = workshop.open("quick:Word")
    run.execute("model")
    known = {name: step.artifact for name, step in run.finished.items()}
    work = workshop.store.work(run.plan.fingerprint("word", known))
    (work / "progress").write_text("half")
    assert run.execute("word").artifact.run_record()["resumed"] is True
    assert run.finished["model"].artifact.run_record()["resumed"] is False


def test_what_surely_does_not_fit_the_disk_is_refused(workshop, monkeypatch):
    plan = workshop.open(TUNE).plan
    least = needed(plan)["finetune"].resources.disk.least
    monkeypatch.setattr(resources, "free_disk", lambda _: least)
    check(plan)
    monkeypatch.setattr(resources, "free_disk", lambda _: least - 1)
    with pytest.raises(
        ProviderError, match=r"^finetune: needs at least .* on the disk of "
    ) as said:
        check(plan)
    assert said.value.exit_code == 5
    assert "\n" not in str(said.value)


def test_what_an_interrupted_run_has_written_counts_as_free(workshop, monkeypatch):
    run = workshop.open(TUNE)
    run.execute("model")
    step = run.plan.steps()[1]
    least = needed(run.plan)["finetune"].resources.disk.least
    (workshop.store.work(step.fingerprint) / "checkpoint").write_bytes(bytes(1000))
    monkeypatch.setattr(resources, "free_disk", lambda _: least - 1000)
    check(run.plan)
    monkeypatch.setattr(resources, "free_disk", lambda _: least - 1001)
    with pytest.raises(ProviderError, match="finetune"):
        check(run.plan)


def test_what_gc_deletes_meanwhile_counts_as_nothing(workshop, monkeypatch):
    """An artifact and a folder of an interrupted run, after they were listed."""
    workshop.run("quick:Word")
    plan = workshop.open({"quick:Word": {"word": "again"}}).plan
    steps = plan.steps()
    (workshop.store.work(steps[1].fingerprint) / "gone").mkdir()
    listing, scan = Path.iterdir, os.scandir

    def deleting(path):
        found = list(listing(path))
        if path.name == "sha256":
            for each in found:
                shutil.rmtree(each)
        return iter(found)

    def gone(path):
        if str(path).endswith("gone"):
            raise FileNotFoundError(path)
        return scan(path)

    monkeypatch.setattr(Path, "iterdir", deleting)
    monkeypatch.setattr(os, "scandir", gone)
    found = resources.of(plan, steps)
    monkeypatch.setattr(resources, "_manifests", lambda _: pytest.fail("reads the whole store"))
    assert resources.of(plan, steps, times=False).keys() == found.keys()
    assert found["word"].seconds is None
    assert workshop.store.digests() == []
    resources.check(plan, steps, found)


def test_what_surely_does_not_fit_the_memory_is_refused(workshop, monkeypatch):
    plan = workshop.open(TUNE).plan
    least = needed(plan)["finetune"].resources.memory.least
    monkeypatch.setattr(resources, "total_memory", lambda: least - 1)
    with pytest.raises(ProviderError, match=r"^finetune: needs at least .* of memory, but this"):
        check(plan)
    plan.device = "cuda"
    check(plan)


def test_what_is_done_already_needs_nothing(workshop, tuned, monkeypatch):
    monkeypatch.setattr(resources, "free_disk", lambda _: 0)
    monkeypatch.setattr(resources, "total_memory", lambda: 0)
    check(workshop.open(TUNE).plan)


PLUGINS = '''
import shutil
from typing import ClassVar

from pipeline.stage import Draft, Stage
from pipeline.stage.resources import Resources
from pipeline.store.artifact import Kind


class Schedule(Stage):
    """Its epochs are none until the recipe gives some."""

    name: ClassVar[str] = "schedule"
    consumes: ClassVar = frozenset({Kind.ENCODER})
    produces: ClassVar = Kind.REPORT
    epochs: int | None = None
    note: str = ""

    def run(self, context, model):
        (context.output / "note.txt").write_text(self.note)
        return Draft()


class Hasty(Schedule):
    """Takes for given what is known only of a step that is to run."""

    name: ClassVar[str] = "hasty"

    def resources(self, work):
        work.tokens["train"]
        return super().resources(work)


class Broken(Schedule):
    """Fails where it should say what it needs."""

    name: ClassVar[str] = "broken"

    def resources(self, work):
        return work.tokens["no such split"]


class Copy(Stage):
    """The same model again."""

    name: ClassVar[str] = "copy"

    def run(self, context, model):
        shutil.copytree(model.directory, context.output, dirs_exist_ok=True)
        for record in ("manifest.json", "run.json"):
            (context.output / record).unlink()
        return Draft(model=model.manifest.model)


class Witness(Schedule):
    """Works on all models at once, as validate does."""

    name: ClassVar[str] = "witness"
    consumes: ClassVar = frozenset({Kind.CHECKPOINT})
    sees_ancestors: ClassVar[bool] = True

    def resources(self, work):
        return Resources(effort=float(1 + len(work.references)))
'''


def test_a_row_of_several_texts_needs_as_much_as_they_do(workshop):
    """A row of a search is two texts, which share a batch in training."""
    write_search(workshop.write_rows)
    search = {"task": "sentence-embeddings", "data": SEARCH}
    found = [
        needed(workshop.open({"finetune": {"batch_size": rows}}, **search).plan)["finetune"]
        for rows in (16, 32)
    ]
    shape, less, more = found[0].resources.shape, *(step.resources.memory for step in found)
    assert more.most - less.most == footprint.activations(shape, 2 * 16, SEARCH["max_length"]).most
    tuned = workshop.run(TUNE, **search)["finetune"].artifact
    say_scored(workshop, seconds=0.0)
    counts = tuned.run_record()["texts"]
    rows = {record.split: record.rows for record in tuned.manifest.data}
    assert counts["train"] == 2 * rows["train"]
    say(tuned, seconds=10.0)
    longer = needed(workshop.open({"finetune": {"epochs": 3}}, **search).plan)["finetune"]
    assert longer.seconds == pytest.approx(30.0, rel=0.01)
    say(tuned, texts={name: count // 2 for name, count in counts.items()})
    longer = needed(workshop.open({"finetune": {"epochs": 3}}, **search).plan)["finetune"]
    assert longer.seconds == pytest.approx(60.0, rel=0.01)


@pytest.mark.parametrize("name", ["Schedule", "Hasty"])
def test_a_plug_in_that_ran_before_does_not_stop_the_next_plan(workshop, name):
    (workshop.folder / "own.py").write_text(PLUGINS)
    workshop.run(f"own:{name}")
    found = needed(workshop.open({f"own:{name}": {"note": "again"}}).plan)
    assert list(found) == [name.lower()]


def test_a_plug_in_that_cannot_say_its_needs_is_named(workshop):
    (workshop.folder / "own.py").write_text(PLUGINS)
    with pytest.raises(RarefyError, match="broken: resources: KeyError: 'no such split'"):
        needed(workshop.open("own:Broken").plan)


def test_earlier_models_that_a_stage_saw_count_in_its_time(workshop):
    """It does not name them: it gets all that are before it."""
    (workshop.folder / "own.py").write_text(PLUGINS)
    chain = ["quick:Head", *({"own:Copy": {}, "as": name} for name in ("second", "third"))]
    say(workshop.run(*chain, "own:Witness")["witness"].artifact, seconds=30.0)
    again = {"own:Witness": {"note": "again"}}
    assert needed(workshop.open(*chain, again).plan)["witness"].seconds == pytest.approx(30.0)
    less = needed(workshop.open(*chain[:2], again).plan)["witness"]
    assert less.seconds == pytest.approx(20.0)


def test_a_damaged_record_of_a_run_tells_no_time(workshop, tuned):
    (tuned.directory / "run.json").write_text("{")
    assert needed(workshop.open({"finetune": {"epochs": 3}}).plan)["finetune"].seconds is None


def test_a_disk_that_does_not_say_its_size_refuses_nothing(workshop, monkeypatch):
    """As on some network file systems, which report no size and no free space."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 0))
    check(workshop.open(TUNE).plan)


def test_swap_counts_as_memory(workshop, monkeypatch):
    plan = workshop.open(TUNE).plan
    least = needed(plan)["finetune"].resources.memory.least
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=least // 2))
    monkeypatch.setattr("psutil.swap_memory", lambda: SimpleNamespace(total=least))
    check(plan)
