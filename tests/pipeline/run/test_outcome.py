"""The recorded outcome of a run."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from rarefy.pipeline.run import engine, folder, outcome
from rarefy.pipeline.store.artifact import RUN
from rarefy.pipeline.terms.errors import IntegrityError, RecipeError
from rarefy.pipeline.verdict.record import UNKNOWN
from tests.conftest import execute
from tests.pipeline.run.chains import flip
from tests.pipeline.store.artifacts import overwrite
from tests.project import JUDGE

OWN = '''
from typing import ClassVar

from rarefy.pipeline.stage import Draft, Stage
from rarefy.pipeline.store.artifact import Kind
from quick import Word


class Pack(Word):
    """Make a bundle of a word."""

    name: ClassVar[str] = "pack"
    produces: ClassVar = Kind.BUNDLE

    def run(self, context, model):
        (context.output / "model.onnx").write_text(self.word)
        return Draft()
'''
BUDGETS = [{"metric": "size", "max": "1500 B"}]


@pytest.fixture
def opened(workshop):
    """Open a recipe whose bundles, which nothing could answer with, are not scored."""
    (workshop.folder / "own.py").write_text(OWN + JUDGE)

    def open_(*stages):
        run = workshop.open(*stages, budgets=BUDGETS)
        run.scored = False
        return run

    return open_


def concluded(run):
    execute(run)
    return outcome.conclude(run, "rarefy run trial.yaml")


def test_the_recorded_recipe_names_no_path_of_this_machine(workshop, tmp_path_factory):
    folder, elsewhere = workshop.folder, tmp_path_factory.mktemp("elsewhere")
    rows = (folder / "train.jsonl").read_bytes()
    (elsewhere / "train.jsonl").write_bytes(rows)
    data = {"train": str(elsewhere / "train.jsonl"), "eval": str(folder / "eval.jsonl")}
    run = workshop.open("quick:Head", data=data, model=str(folder / "model"))
    execute(run)
    text = outcome.conclude(run, "rarefy run trial.yaml").data.model_dump_json()
    assert str(folder) not in text
    assert str(elsewhere) not in text
    recipe = outcome.conclude(run, "rarefy run trial.yaml").data.recipe
    assert "train: train.jsonl" in recipe
    assert "eval: eval.jsonl" in recipe
    assert "model: model" in recipe


def test_a_manifest_names_no_path_of_this_machine(workshop):
    """Model, data and a stage's file, given as absolute paths inside the recipe's folder."""
    folder = workshop.folder
    stages = (
        {"quick:Word": {}},
        {"quick:Listen": {"to": "word", "file": str(folder / "quick.py")}},
    )
    data = {name: str(folder / f"{name}.jsonl") for name in ("train", "eval")}
    chain = (*stages, {"quick:Count": {}})
    finished = workshop.run(*chain, model=str(folder / "model"), data=data)
    for step in finished.values():
        assert str(folder) not in step.artifact.manifest.canonical().decode()
    assert finished["model"].artifact.manifest.source.reference == "model"
    assert finished["listen"].artifact.manifest.stage.parameters["file"] == "quick.py"
    assert finished["count"].artifact.manifest.data[0].name == "train.jsonl"


def test_a_report_of_something_else_than_measurements_ends_a_run_without_a_verdict(workshop):
    run = workshop.open("quick:Word")
    execute(run)
    assert outcome.conclude(run, "rarefy run trial.yaml").data.verdict is None


def test_budgets_that_nothing_measured_are_not_passed_over(workshop):
    run = workshop.open("quick:Word", budgets=[{"metric": "size", "max": "1 MB"}])
    execute(run)
    with pytest.raises(RecipeError, match=r"budgets: no stage wrote measurements\.json"):
        outcome.conclude(run, "rarefy run trial.yaml")


MEASURED, LATER = ({"own:Pack": {"word": word}, "as": word} for word in ("measured", "later"))
TWO = (MEASURED, "own:Judge", {**LATER, "from": "model"})
"""Of two bundles, the first is measured."""


def test_the_bundle_that_was_measured_is_delivered_though_another_was_made_later(opened, tmp_path):
    run, out = opened(*TWO), tmp_path / "out"
    folder.write(concluded(run), out)
    digest = run.finished["measured"].artifact.digest
    assert digest != run.finished["later"].artifact.digest
    assert json.loads((out / "verdict.json").read_text())["bundle"] == digest
    assert (out / "bundle" / "model.onnx").read_text() == "measured"


@pytest.mark.parametrize(("sizes", "said"), [((1000, 2000), "fail"), ((2000, 1000), "pass")])
def test_of_two_measurements_the_last_is_judged(opened, sizes, said):
    once, again = ({"own:Judge": {"size": size}, "from": "pack"} for size in sizes)
    run = opened("own:Pack", {**once, "as": "once"}, {**again, "as": "again"})
    data = concluded(run).data
    assert data.verdict.outcome == said
    assert data.measurements.models["candidate"].size == sizes[1]


@pytest.mark.parametrize(
    ("step", "file", "old", "new"),
    [
        ("judge", "measurements.json", b"1000", b"1001"),
        ("measured", "model.onnx", b"measured", b"measureD"),
    ],
)
def test_what_was_damaged_since_is_noticed_in_a_run_from_the_cache(opened, step, file, old, new):
    run = opened(*TWO)
    assert concluded(run).data.verdict.outcome == "pass"
    flip(run.finished[step].artifact.path(file), old, new)
    again = opened(*TWO)
    assert all(planned.cached for planned in again.plan.steps())
    with pytest.raises(IntegrityError, match=f"is damaged: {file}"):
        concluded(again)


def test_a_stage_that_was_resumed_has_not_measured_in_the_future(opened, workshop):
    """Its seconds count the attempts before: it would outrank what is measured in the next hour."""
    run = opened("own:Pack", "own:Judge")
    for identifier in ("model", "pack"):
        run.execute(identifier)
    known = {name: step.artifact for name, step in run.finished.items()}
    work = workshop.store.work(run.plan.fingerprint("judge", known))
    (work / engine.TIME_FILE).write_text(json.dumps({"seconds": 3600}))
    before, data = datetime.now(UTC), concluded(run).data
    assert run.finished["judge"].artifact.run_record()["seconds"] >= 3600
    assert before <= datetime.fromisoformat(data.measured_at) <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("record", "ended"),
    [
        ({"ended": "2026-01-01T10:30:00+00:00"}, "2026-01-01T10:30:00.000+00:00"),
        ({}, UNKNOWN),
        ({"ended": "soon"}, UNKNOWN),
    ],
)
def test_measurements_are_as_old_as_their_record_says(opened, record, ended):
    run = opened("own:Pack", "own:Judge")
    execute(run)
    started = {"started": "2026-01-01T10:00:00+00:00", "seconds": 3600.0}
    file = run.finished["judge"].artifact.directory / RUN
    overwrite(file, json.dumps(started | record))
    assert outcome.conclude(run, "rarefy run trial.yaml").data.measured_at == ended


def test_a_metric_of_one_s_own_is_judged_and_its_code_recorded(opened, workshop, tmp_path):
    """Another function under its name is another verdict, on the same measurements."""
    digests = []
    for number in ("0.25", "0.75"):
        source = f"def cost(predictions, labels):\n    return 0.0 * labels + {number}\n"
        (workshop.folder / "my_metrics.py").write_text(source)
        budgets = [{"metric": "my_metrics:cost", "max": 0.5}]
        run = workshop.open("own:Pack", "own:Judge", budgets=budgets)
        run.scored = False
        folder.write(concluded(run), tmp_path)
        verdict = json.loads((tmp_path / "verdict.json").read_text())
        [budget] = verdict["budgets"]
        assert (budget["metric"], budget["value"]) == ("my_metrics:cost", float(number))
        assert f"metrics:cost is {number}" in (tmp_path / "summary.md").read_text()
        assert "my_metrics:cost" in (tmp_path / "report.html").read_text()
        digests.append(budget["code"])
    assert run.finished["judge"].cached, "nothing is measured again"
    assert len({*digests}) == 2
    assert verdict["outcome"] != "pass"
