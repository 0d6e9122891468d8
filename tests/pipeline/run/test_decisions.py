"""What a task chooses for each model: on development rows, and part of the fingerprint."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from pipeline.measure import accuracy
from pipeline.model import checkpoint
from pipeline.run.plan import MODEL
from pipeline.stage.scoring import multi_label
from pipeline.terms.progress import silent
from tests.multi_label import LABELS, TASK, rows

DATA = {"train": "train.jsonl", "eval": "eval.jsonl", "dev": "dev.jsonl", "label": "labels"}
TRAINED = {"finetune": {"epochs": 1, "learning_rate": 5e-3, "batch_size": 8}}


@pytest.fixture
def desk(workshop: Any) -> Any:
    for name, count, seed in (("train", 32, 0), ("dev", 16, 2), ("eval", 16, 1)):
        workshop.write_rows(f"{name}.jsonl", rows(count, seed))
    return workshop


def thresholds(finished: Any) -> dict[str, float]:
    config = json.loads((finished.artifact.directory / "config.json").read_text())
    found: dict[str, float] = config["thresholds"]
    return found


def test_thresholds_are_those_of_the_models_own_answers_to_the_development_rows(desk):
    run = desk.open(TRAINED, task=TASK, data=DATA)
    run.execute(MODEL)
    made = run.execute("finetune")
    task, split = run.plan.task, run.plan.splits["dev"]
    logits = accuracy.checkpoint_outputs(made.artifact.directory, task, split, silent)
    expected = multi_label.thresholds(1 / (1 + np.exp(-logits)), np.array(task.scorer.truth(split)))
    assert list(thresholds(made).values()) == pytest.approx(expected.tolist())
    # The score of the ledger is that of these decisions.
    evaluated = run.plan.splits["eval"]
    logits = accuracy.checkpoint_outputs(made.artifact.directory, task, evaluated, silent)
    decided = 1 / (1 + np.exp(-logits)) >= expected
    truth = np.array(task.scorer.truth(evaluated))
    hits = (decided & (truth == 1)).sum()
    f1 = 2 * hits / (decided.sum() + truth.sum())
    assert made.scores[0].name == "micro_f1"
    assert made.scores[0].value == pytest.approx(f1)
    assert "dev" in [record.split for record in made.artifact.manifest.data]
    assert checkpoint.load(made.artifact.directory).config.thresholds == thresholds(made)


def test_other_development_rows_choose_again_and_other_eval_rows_do_not(desk):
    first = desk.run(TRAINED, task=TASK, data=DATA)["finetune"]
    desk.write_rows("eval.jsonl", rows(8, seed=4))
    assert desk.run(TRAINED, task=TASK, data=DATA)["finetune"].cached
    desk.write_rows("dev.jsonl", rows(16, seed=3)[:7])
    again = desk.run(TRAINED, task=TASK, data=DATA)["finetune"]
    assert not again.cached
    assert thresholds(again) != thresholds(first)


@pytest.mark.slow
def test_an_imported_classifier_gets_thresholds(desk):
    run = desk.open(TRAINED, task=TASK, data=DATA)
    run.execute(MODEL)
    trained = run.execute("finetune").artifact
    model = desk.folder / "trained"
    network = checkpoint.load(trained.directory)
    del network.config.thresholds
    checkpoint.save(network, checkpoint.load_tokenizer(trained.directory), model)
    found = desk.run("export", model="trained", task=TASK, data=DATA)
    assert thresholds(found[MODEL]) == pytest.approx(thresholds(run.finished["finetune"]))
    assert thresholds(found["export"]) == thresholds(found[MODEL])
    assert list(thresholds(found["export"])) == list(LABELS)


def test_a_task_that_chooses_nothing_reads_no_development_rows(workshop):
    workshop.write_rows("dev.jsonl", [{"text": "the film", "label": "positive"}] * 4)
    data = {"train": "train.jsonl", "eval": "eval.jsonl", "dev": "dev.jsonl"}
    workshop.run({"finetune": {"epochs": 1}}, data=data)
    workshop.write_rows("dev.jsonl", [{"text": "a story", "label": "negative"}] * 4)
    assert workshop.run({"finetune": {"epochs": 1}}, data=data)["finetune"].cached
