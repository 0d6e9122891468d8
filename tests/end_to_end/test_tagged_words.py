"""A recipe that tags words: a RoBERTa teaches a BERT, and every way to the bundle answers alike."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from rarefy.pipeline import tasks
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.measure.predictions import predict as accuracy
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.release.predict import Bundle
from rarefy.pipeline.report import html
from rarefy.pipeline.run import outcome
from rarefy.pipeline.terms.progress import silent
from tests.conftest import VALIDATE, Workshop, execute
from tests.families import write_family
from tests.known_times import know_times
from tests.models import write_encoder
from tests.tagged import DATA, tagged_rows

STAGES = (
    {"finetune": {"epochs": 2, "learning_rate": 1e-3}},
    {"distill": {"student": "student", "epochs": 8, "learning_rate": 1e-2}},
    "quantize",
    "export",
    VALIDATE,
)
BUDGETS = [
    {"metric": "entity_f1", "min_retained": "1 %", "against": "finetune"},
    {"metric": "token_accuracy", "min": "1 %"},
    {"metric": "agreement", "min": "1 %"},
]
LONG = "the fine film is a very lovely great story and the awful dull scene with poor actor of kind"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tagged")
    workshop = Workshop(folder)
    write_family(folder / "model", "roberta", layers=2, hidden=16)
    write_encoder(folder / "student", layers=2, hidden=16)
    workshop.write_rows("train.jsonl", tagged_rows(80, longest=20))
    workshop.write_rows("eval.jsonl", tagged_rows(24, 1, longest=20))
    data = DATA | {"max_length": 12, "slices": ["part"]}
    run = workshop.open(
        *STAGES, task="token-classification", model="model", data=data, budgets=BUDGETS
    )
    with pytest.MonkeyPatch.context() as patch:
        know_times(patch)
        execute(run)
    return run


@pytest.fixture(scope="module")
def bundle(run):
    return run.finished["export"].artifact.directory


@pytest.fixture(scope="module")
def task(run, bundle):
    model = BundleModel(bundle)
    made = tasks.find(model.task).bind(model.labels, model.signature["max_length"], ())
    return made.of_model(model.config)


def test_every_stage_is_scored_by_entities(run):
    for name in ("finetune", "distill", "quantize", "export"):
        found = [metric.name for metric in run.finished[name].scores]
        assert found == ["entity_f1", "entity_precision", "entity_recall", "token_accuracy"]
        assert run.finished[name].scores[0].n == 24
    assert run.finished["distill"].scores[-1].value > 0.5, "it learns from a RoBERTa"


def test_the_budgets_are_judged_and_the_report_shows_sentences(run):
    ended = outcome.conclude(run, "rarefy run trial.yaml")
    assert {budget.metric for budget in ended.data.verdict.budgets} == {
        "entity_f1",
        "token_accuracy",
        "agreement",
    }
    page = html.render(ended.data)
    assert "Entity F1" in page or "entity f1" in page
    assert "[GOOD: " in page


def test_the_graph_answers_as_pytorch_does_in_windows_too(run, task):
    checkpoint = run.finished["distill"].artifact.directory
    split = Split("eval", "eval.jsonl", "0", [LONG, "the fine film"], None, None)
    exact = accuracy.checkpoint_answers(checkpoint, task, split, silent)
    assert len(exact) == len(LONG.split()) + 3
    from rarefy.exporters import build

    out = checkpoint.parent / "fp32"
    out.mkdir()
    build.build(checkpoint, out, task=task, split=split, form="deploy")
    ours = accuracy.bundle_answers(out, task, split, provider="cpu", threads=1, progress=silent)
    assert np.abs(ours - exact).max() < 1e-4


def test_scoring_bundle_command_and_runner_give_the_same_answers(bundle, task, rarefy):
    given = [LONG, LONG.split(), "the  fine film, awful!", ""]
    asked = [task.presenter.preprocess(text) for text in given]
    answers = task.head.predictions(BundleModel(bundle).units(asked))
    wanted = [answer._asdict() for answer in task.presenter.postprocess(given, answers)]
    assert sum(len(one["tags"]) for one in wanted) == len(answers)
    assert [answer._asdict() for answer in Bundle(bundle).predict(given)] == wanted
    lines = rarefy("predict", bundle, "--json", given[0], given[2]).out.splitlines()
    for line, want in zip(lines, (wanted[0], wanted[2]), strict=True):
        said = json.loads(line)
        assert {key: said[key] for key in ("entities", "tags")} == want
    done = subprocess.run(
        [sys.executable, bundle / "predict.py"],
        input=json.dumps({"texts": given}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["predictions"] == wanted


def test_the_sample_is_what_the_runner_answers(bundle):
    request = (bundle / "samples/request.json").read_text()
    done = subprocess.run(
        [sys.executable, bundle / "predict.py"],
        input=request,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == json.loads((bundle / "samples/response.json").read_text())
    assert isinstance(json.loads(request)["texts"][0], list)


def test_two_bundles_are_compared_by_sentences_and_loaded(run, bundle, rarefy):
    data = run.plan.loaded.base / "eval.jsonl"
    columns = ("--data", data, "--text", "tokens")
    compared = rarefy(
        "compare", bundle, bundle, *columns, "--label", "tags", "--seconds", "1", "--json"
    )
    assert compared.code == 0, compared.err
    said = json.loads(compared.out)
    assert said["rows"] == 24
    quality = said["accuracy"]
    assert (quality["gains"], quality["losses"], quality["metric"]) == (0, 0, "entity_f1")
    assert quality["answers"] > 24
    assert (quality["block"], quality["blocks"]) == ("sentence", 24)
    loaded = rarefy("loadtest", bundle, *columns, "--rate", "20", "--seconds", "1")
    assert loaded.code == 0, loaded.err
