"""Change anything a number depends on: the number is measured again and is correct.

Files are edited in place, with the same size and modification time. Every recorded score is first
replaced by a false one, to expose numbers that are read although they must be measured.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rarefy.pipeline.measure import machine
from rarefy.pipeline.measure.measurements import CANDIDATE, Measurements
from rarefy.pipeline.measure.predictions import files as answers
from rarefy.pipeline.model.quantization.plan import FILE as PLAN
from rarefy.pipeline.run import outcome
from rarefy.pipeline.run.engine import Finished
from rarefy.pipeline.run.plan.plan import MODEL
from tests.conftest import QUICK_STAGES, Workshop, execute, labelled_rows
from tests.known_times import know_times

LIE = 0.123
WORDS = (
    ('"fine"', '"poor"'),
    ('"warm"', '"cold"'),
    ('"lovely"', '"clumsy"'),
    ('"great"', '"awful"'),
)
"""A good and a bad word of the same length, as in the vocabulary."""
VALIDATE = {
    "validate": {
        "models": [],
        "rows": 12,
        "processes": 2,
        "seconds": 0.5,
        "memory": False,
        "cold_starts": 0,
        "fastest_float": False,
    }
}
CHAIN = (
    {"finetune": {"epochs": 6, "learning_rate": 5e-3, "batch_size": 8}},
    "export",
    VALIDATE,
)
EASY = {"metric": "accuracy", "min": "50 %"}
STATIC = {"quantize": {"mode": "static", "calibration_rows": 32, "sensitivity": False}}
INTEGER = (STATIC, "export", VALIDATE)
"""Starts from the trained model, so only its stage ``quantize`` reads training rows."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Workshop:
    """A workshop in which both chains have run once; the model is right on nearly all rows."""
    workshop = Workshop(tmp_path_factory.mktemp("made"))
    shutil.copytree(tiny_model, workshop.folder / "model")
    shutil.copyfile(QUICK_STAGES, workshop.folder / "quick.py")
    workshop.write_rows("train.jsonl", labelled_rows(120, seed=0))
    workshop.write_rows("eval.jsonl", labelled_rows(40, seed=1))
    with pytest.MonkeyPatch.context() as patch:
        know_times(patch)
        finished = workshop.run(*CHAIN)
        assert accuracy(finished["finetune"]) > 0.8
        shutil.copytree(finished["finetune"].artifact.directory, workshop.folder / "trained")
        workshop.run(*INTEGER, model="trained")
    return workshop


@pytest.fixture
def workshop(made: Workshop, tmp_path: Path) -> Workshop:
    """A copy of that workshop, with false scores recorded in its store."""
    copy = Workshop(tmp_path / "copy")
    shutil.copytree(made.folder, copy.folder)
    for note in (copy.folder / "store/notes").glob("score-*.json"):
        known = json.loads(note.read_text())
        for metric in known["metrics"]:
            metric["value"] = LIE
        note.write_text(json.dumps(known))
    return copy


def accuracy(step: Finished) -> float:
    return next(metric.value for metric in step.scores if metric.name == "accuracy")


def anew(finished: dict[str, Finished]) -> list[str]:
    return [name for name, step in finished.items() if not step.cached]


def measured(step: Finished) -> Measurements:
    return answers.load(step.artifact.directory)


def right(found: Measurements, name: str = CANDIDATE) -> float:
    """Count the share of rows that a model answers correctly, independently of the code."""
    given = [row.index(max(row)) for row in found.models[name].answers]
    return sum(a == y for a, y in zip(given, found.truth, strict=True)) / len(given)


def edit(path: Path, *changes: tuple[str, str]) -> None:
    """Swap words in a file and keep its size and modification time."""
    before, text = path.stat(), path.read_text()
    for old, new in changes:
        assert old in text
        assert len(old) == len(new)
        text = text.replace(old, "\0").replace(new, old).replace("\0", new)
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def pretend_installed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: str
) -> None:
    """Shadow an installed distribution's metadata, as an upgrade would change it."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(folder)
    machine._libraries.cache_clear()


@pytest.fixture(autouse=True)
def libraries(known_times: None) -> Iterator[None]:
    """Clear cached versions, so no test sees those another test faked, here or in another file."""
    machine._libraries.cache_clear()
    yield
    machine._libraries.cache_clear()


# What changes nothing


def test_with_nothing_changed_nothing_is_measured_and_the_lie_is_told(workshop, made):
    """The control: without a change everything is cached, so the other tests can fail."""
    before = made.run(*CHAIN)
    finished = workshop.run(*CHAIN)
    assert anew(finished) == []
    assert accuracy(finished["finetune"]) == accuracy(finished["export"]) == LIE
    assert measured(finished["validate"]) == measured(before["validate"])


# Data


def test_inverted_labels_turn_the_accuracy_over_and_train_nothing(workshop, made):
    before = made.run(*CHAIN)
    edit(workshop.folder / "eval.jsonl", ("negative", "positive"))
    finished = workshop.run(*CHAIN)
    assert anew(finished) == ["validate"], "no other stage reads the eval split"
    assert finished["finetune"].artifact.digest == before["finetune"].artifact.digest
    old, new = (f["export"].artifact.path("model.onnx").read_bytes() for f in (before, finished))
    assert old == new
    for name in ("finetune", "export"):
        assert accuracy(finished[name]) == pytest.approx(1 - accuracy(before[name]))
    old, new = measured(before["validate"]), measured(finished["validate"])
    assert new.truth == [1 - label for label in old.truth]
    assert right(new) == pytest.approx(1 - right(old))
    assert right(new) < 0.2


def test_inverted_labels_turn_the_verdict_over(workshop):
    budgets = [{"metric": "accuracy", "min": "50 %"}]
    verdicts = []
    for _ in range(2):
        run = workshop.open(*CHAIN, budgets=budgets)
        execute(run)
        verdicts.append(outcome.conclude(run, "rarefy run").data.verdict.outcome)
        edit(workshop.folder / "eval.jsonl", ("negative", "positive"))
    assert verdicts == ["pass", "fail"]


def test_edited_calibration_rows_quantize_again_and_all_that_follows(workshop, made):
    before = made.run(*INTEGER, model="trained")
    assert anew(before) == []
    edit(workshop.folder / "train.jsonl", ("lovely", "clumsy"), ("great", "awful"))
    after = workshop.run(*INTEGER, model="trained")
    assert anew(after) == ["quantize", "export", "validate"]
    old, new = (run["quantize"].artifact.path(PLAN).read_text() for run in (before, after))
    assert json.loads(old) != json.loads(new), "other words, other ranges of the inputs"
    assert measured(after["validate"]).models[CANDIDATE].digest == after["export"].artifact.digest
    assert accuracy(after["export"]) == pytest.approx(right(measured(after["validate"])))


def test_an_edit_of_a_file_that_a_stage_names_runs_it_and_all_that_follows(workshop):
    notes = workshop.folder / "notes.txt"
    notes.write_text("fine")
    chain = (
        {"quick:Word": {"word": "before"}, "as": "before"},
        {"quick:Listen": {"to": "before", "file": "notes.txt"}},
        {"quick:Word": {"word": "after"}, "as": "after"},
    )
    workshop.run(*chain)
    assert anew(workshop.run(*chain)) == []
    edit(notes, ("fine", "dull"))
    assert anew(workshop.run(*chain)) == ["listen", "after"]
    assert workshop.ran() == ["before", "listen", "after", "listen", "after"]


# The machine and its libraries


def test_another_onnxruntime_measures_anew_and_trains_nothing(workshop, made, monkeypatch):
    before = made.run(*CHAIN)
    pretend_installed(workshop.folder / "upgrade", monkeypatch, "onnxruntime", "99.0")
    finished = workshop.run(*CHAIN)
    assert anew(finished) == ["export", "validate"]
    assert accuracy(finished["finetune"]) == accuracy(before["finetune"]) != LIE
    assert accuracy(finished["export"]) == pytest.approx(accuracy(before["export"]), abs=0.05)
    old, new = measured(before["validate"]), measured(finished["validate"])
    assert new.machine["libraries"]["onnxruntime"] == "99.0"
    assert new.latency["cpu"].samples != old.latency["cpu"].samples


def test_another_cpu_measures_anew_and_trains_nothing(workshop, made, monkeypatch):
    before = made.run(*CHAIN)
    facts = machine.fingerprint() | {"cpu": "another"}
    monkeypatch.setattr(machine, "fingerprint", lambda: facts)
    finished = workshop.run(*CHAIN)
    assert anew(finished) == ["validate"]
    new = measured(finished["validate"])
    assert new.machine["cpu"] == "another"
    assert new.latency["cpu"].samples != measured(before["validate"]).latency["cpu"].samples
    assert accuracy(finished["export"]) == accuracy(before["export"]) != LIE, (
        "its kernels may differ"
    )
    assert accuracy(finished["finetune"]) == LIE, "PyTorch's answers are those of the device class"


# What it is compared with


def test_a_tag_that_moved_is_measured_anew(workshop):
    budgets = [{"metric": "size", "max_regression": "5 %", "against": "production"}]
    bundle = workshop.run(*CHAIN)["export"].artifact
    workshop.store.tag("production", bundle.digest)
    first, verdict = judged(workshop, budgets)
    assert anew(first) == ["validate"], "it was not compared with anything before"
    assert verdict == "pass"
    assert anew(judged(workshop, budgets)[0]) == []

    small = workshop.run(*INTEGER, model="trained")["export"].artifact.digest
    workshop.store.tag("production", small)
    second, verdict = judged(workshop, budgets)
    assert anew(second) == ["validate"]
    assert verdict == "fail"
    found = measured(second["validate"])
    assert found.baselines == {"production": small}
    assert found.models["production"].digest == small
    assert found.models["production"].size < 0.95 * found.models[CANDIDATE].size


def judged(workshop: Workshop, budgets: list[dict[str, str]]) -> tuple[dict[str, Finished], str]:
    run = workshop.open(*CHAIN, budgets=budgets)
    finished = execute(run)
    return finished, outcome.conclude(run, "rarefy run").data.verdict.outcome


# The model


def test_an_edited_tokenizer_is_another_model(workshop, made):
    """Two words of the vocabulary are swapped, so each is read as the other."""
    before = made.run(CHAIN[0])["finetune"]
    edit(workshop.folder / "model/tokenizer.json", ('"lovely"', '"clumsy"'))
    finished = workshop.run(CHAIN[0])
    assert anew(finished) == [MODEL, "finetune"]
    after = finished["finetune"]
    assert accuracy(after) != LIE
    old, new = (step.artifact.path("model.safetensors").read_bytes() for step in (before, after))
    assert old != new, "it learned from other rows of the embedding"


def test_an_edited_tokenizer_of_a_trained_model_turns_its_answers(workshop, made):
    """Nothing is retrained: the same weights read other words."""
    edit(workshop.folder / "trained/tokenizer.json", *WORDS)
    finished = workshop.run(*INTEGER[:1], model="trained")
    assert anew(finished) == [MODEL, "quantize"]
    assert accuracy(finished["quantize"]) < 0.5 < accuracy(made.run(CHAIN[0])["finetune"])


# rarefy validate


def validate(
    workshop: Workshop, bundle: str, capsys: pytest.CaptureFixture[str]
) -> tuple[int, dict[str, Any]]:
    """Run ``rarefy validate`` on a bundle; return its exit code and what it printed."""
    from rarefy.flows.cli import main

    recipe = workshop.folder / "trial.yaml"
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(
            [
                *("validate", bundle, "--recipe", str(recipe), "--home", str(workshop.folder)),
                "--json",
            ]
        )
    return int(ended.value.code or 0), json.loads(capsys.readouterr().out)


def test_rarefy_validate_measures_every_time(workshop, capsys):
    budgets = [EASY, {"metric": "latency_p50", "max": "10 s"}]
    digest = workshop.run(*CHAIN)["export"].artifact.digest
    workshop.recipe(*CHAIN, budgets=budgets)
    code, first = validate(workshop, digest, capsys)
    again, second = validate(workshop, digest, capsys)
    assert code == again == 0
    assert first["budgets"][0] == second["budgets"][0]
    assert first["budgets"][1]["value"] != second["budgets"][1]["value"], "no two times are equal"
    edit(workshop.folder / "eval.jsonl", ("negative", "positive"))
    code, inverted = validate(workshop, digest, capsys)
    assert code == 3
    old, new = (found["budgets"][0]["value"] for found in (first, inverted))
    assert new == pytest.approx(1 - old)


def test_rarefy_validate_measures_no_bytes_under_another_s_digest(workshop, capsys):
    """If a tokenizer in a bundle's folder is edited, the folder no longer fits its manifest."""
    shutil.copytree(workshop.run(*CHAIN)["export"].artifact.directory, workshop.folder / "copy")
    workshop.recipe(*CHAIN, budgets=[EASY])
    edit(workshop.folder / "copy/tokenizer.json", *WORDS)
    code, said = validate(workshop, str(workshop.folder / "copy"), capsys)
    assert code == 6
    assert "tokenizer.json does not match the digest in the bundle's manifest.json" in said["error"]


def test_rarefy_validate_takes_the_tag_as_it_is_now(workshop, capsys):
    bundle = workshop.run(*CHAIN)["export"].artifact.digest
    small = workshop.run(*INTEGER, model="trained")["export"].artifact.digest
    budgets = [{"metric": "size", "max_regression": "5 %", "against": "production"}]
    workshop.recipe(*CHAIN, budgets=budgets)
    codes = []
    for tagged in (bundle, small):
        workshop.store.tag("production", tagged)
        codes.append(validate(workshop, bundle, capsys)[0])
    assert codes == [0, 3]


def test_rarefy_validate_exports_references_anew_with_another_library(
    workshop, capsys, monkeypatch
):
    from rarefy.exporters import build

    exported = []
    original = build.build
    monkeypatch.setattr(build, "build", lambda *a, **k: (exported.append(1), original(*a, **k))[1])
    digest = workshop.run(*CHAIN)["export"].artifact.digest
    measure = {"validate": VALIDATE["validate"] | {"models": ["finetune"]}}
    workshop.recipe(*CHAIN[:2], measure, budgets=[EASY])
    counts = []
    for _ in range(2):
        validate(workshop, digest, capsys)
        counts.append(len(exported))
    pretend_installed(workshop.folder / "upgrade", monkeypatch, "onnx", "99.0")
    validate(workshop, digest, capsys)
    assert [*counts, len(exported)] == [1, 1, 2]
