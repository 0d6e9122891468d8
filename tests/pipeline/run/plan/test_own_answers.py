"""Rows without labels: the imported model's own answers are the truth, from recipe to verdict."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rarefy.pipeline.measure.predictions import files as answers
from rarefy.pipeline.measure.predictions import predict as accuracy
from rarefy.pipeline.recipe.recipe import MODEL
from rarefy.pipeline.tasks.classification.text import ClassReader
from rarefy.pipeline.terms.errors import EvidenceError, RarefyError, RecipeError
from tests.conftest import QUICK, Workshop, execute, labelled_rows
from tests.models import LABELS, write_encoder, write_finetuned, write_model
from tests.project import Said

DATA = {"train": "train.jsonl", "eval": "eval.jsonl", "dev": "20 %", "label": None}
VALIDATE = {"validate": {"models": ["model"], **QUICK}}
DISTILL = {"distill": {"keep_layers": 1, "epochs": 8, "learning_rate": 1e-2}}
REFUSED = "the model's own predictions serve as labels, but the model has no head"


@pytest.fixture(scope="session")
def finetuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_finetuned(tmp_path_factory.mktemp("finetuned") / "model")


@pytest.fixture
def bare(workshop: Workshop, finetuned: Path) -> Workshop:
    """A workshop whose rows have no labels, and whose model is finetuned."""
    shutil.rmtree(workshop.folder / "model")
    shutil.copytree(finetuned, workshop.folder / "model")
    for name, seed in (("train", 0), ("eval", 1)):
        rows = [{"text": row["text"]} for row in labelled_rows(60, seed)]
        workshop.write_rows(f"{name}.jsonl", rows)
    return workshop


def model_says(folder: Path, texts: list[str]) -> list[int]:
    """Return the labels that transformers' own pipeline gives."""
    from transformers import pipeline

    classify = pipeline("text-classification", str(folder), device="cpu")
    return [LABELS.index(answer["label"]) for answer in classify(texts)]


def test_a_head_without_names_answers_with_those_of_transformers(bare: Workshop) -> None:
    path = bare.folder / "model" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in config.items() if "label" not in k}))
    run = bare.open(DISTILL, data=DATA)
    run.execute(MODEL)
    assert run.plan.labels == ["LABEL_0", "LABEL_1"]
    assert {*(run.plan.splits["eval"].labels or ())} <= {0, 1}


def test_a_file_that_is_train_and_eval_is_answered_for_both(bare: Workshop) -> None:
    """The development split is cut from train alone, so train has fewer rows."""
    run = bare.open(DISTILL, data=DATA | {"eval": "train.jsonl"})
    run.execute(MODEL)
    for split in run.plan.splits.values():
        assert len(split.labels or ()) == len(split)


def test_the_models_answers_are_the_targets_and_are_kept(
    bare: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = bare.open(DISTILL, data=DATA)
    with pytest.raises(EvidenceError, match="not in this store: run the recipe"):
        _ = run.plan.splits
    run.execute(MODEL)
    for name in ("train", "dev", "eval"):
        split = run.plan.splits[name]
        assert split.labels == model_says(bare.folder / "model", list(split.texts)), name
        assert set(split.labels) == {0, 1}

    def never(*_: Any) -> Any:
        raise AssertionError("answered again")

    monkeypatch.setattr(accuracy, "checkpoint_answers", never)
    again = bare.open(DISTILL, data=DATA)
    again.execute(MODEL)
    assert again.plan.splits["train"].labels == run.plan.splits["train"].labels


def test_a_stage_that_does_not_read_the_model_gets_no_answers_of_it(bare: Workshop) -> None:
    run = bare.open("augment", DISTILL, data=DATA)
    run.execute(MODEL)
    given = [run.context(s.stage, {}, bare.folder, bare.folder) for s in run.plan.loaded.steps]
    assert given[0].splits["train"].labels is None
    assert given[1].splits["train"].labels


def test_the_ledgers_score_is_agreement_with_the_model(bare: Workshop) -> None:
    run = bare.open(DISTILL, data=DATA)
    made = execute(run)
    assert [row.metric for row in run.ledger()] == ["agreement", "agreement"]
    assert made[MODEL].scores[0].value == 1.0
    split = run.plan.splits["eval"]
    student = model_says(made["distill"].artifact.directory, list(split.texts))
    assert split.labels is not None
    same = np.mean(np.array(student) == np.array(split.labels))
    assert made["distill"].scores[0].value == pytest.approx(same)


def test_a_models_broken_answers_are_no_truth(bare: Workshop) -> None:
    from safetensors.torch import load_file, save_file

    path = bare.folder / "model" / "model.safetensors"
    weights = load_file(path)
    weights["classifier.bias"][:] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(RarefyError, match=r"outputs NaN for \d+ of \d+ rows of train\.jsonl"):
        bare.run(DISTILL, data=DATA)


def test_a_model_without_a_head_cannot_label(bare: Workshop) -> None:
    shutil.rmtree(bare.folder / "model")
    write_encoder(bare.folder / "model", layers=2, hidden=16)
    with pytest.raises(RecipeError, match=rf"trial\.yaml:\d+: .*{REFUSED} for text-classification"):
        bare.open(DISTILL, data=DATA).plan.steps()


def test_the_one_output_of_a_cross_encoder_cannot_label(bare: Workshop) -> None:
    """It is a score. As the only class it would be every row's answer: agreement of 100 %."""
    shutil.rmtree(bare.folder / "model")
    write_model(bare.folder / "model", "bert", "AutoModelForSequenceClassification", ("LABEL_0",))
    with pytest.raises(RecipeError, match=rf"{REFUSED} for text-classification") as caught:
        bare.open(DISTILL, data=DATA).plan.steps()
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_a_task_whose_answers_are_no_truth_needs_labels(
    bare: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClassReader, "self_labelled", ())
    with pytest.raises(RecipeError, match="the predictions of text-classification cannot serve as"):
        bare.open(DISTILL, data=DATA).plan.steps()


def test_finetuning_on_ones_own_answers_is_refused(bare: Workshop) -> None:
    with pytest.raises(
        RecipeError, match="would only learn its own predictions; begin with distill"
    ):
        bare.open("finetune", data=DATA).plan.steps()


def test_accuracy_needs_labels(bare: Workshop) -> None:
    budgets = [{"metric": "accuracy", "max_drop": "1 point", "against": "model"}]
    with pytest.raises(RecipeError, match=r"accuracy needs labels, but data\.label is null"):
        bare.open("export", VALIDATE, data=DATA, budgets=budgets).plan.steps()


def test_a_model_without_a_head_teaches_nothing(workshop: Workshop) -> None:
    stages = ("finetune", {"adapt": {"teacher": "model"}})
    with pytest.raises(RecipeError, match="teacher: the recipe's model has no head for the task"):
        workshop.open(*stages).plan.steps()


@pytest.mark.slow
def test_a_whole_chain_runs_to_a_verdict(
    bare: Workshop, rarefy: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, known_times: None
) -> None:
    monkeypatch.setenv("RAREFY_HOME", str(bare.folder / "home"))
    stages = [
        DISTILL,
        {"prune": {"remove_neurons": "25 %"}},
        {"adapt": {"teacher": "model", "epochs": 4, "learning_rate": 1e-2}},
        "quantize",
        "merge",
        "export",
        VALIDATE,
    ]
    speed = {"metric": "latency_p50", "min_speedup": "0.01x", "against": "model"}
    budgets = [
        {"metric": "agreement", "min": "80 %"},
        {"metric": "kl", "max": 0.5},
        {"metric": "size", "min_shrink": "1.01x", "against": "model"},
        speed | {"level": "warn"},  # two processes on a busy machine say nothing of the time
    ]
    recipe = bare.recipe(*stages, data=DATA, budgets=budgets)
    said = rarefy("run", recipe, "--engine", "inline", "--json")
    told = json.loads(said.out)
    assert (told["outcome"], said.code) == ("pass", 0), told["budgets"]
    assert {row["metric"] for row in told["ledger"]} == {"agreement", None}
    folder = bare.folder / "home" / "runs" / "trial"
    reasons = [budget["reason"] for budget in told["budgets"]]
    assert reasons[0].startswith("agreement is ")
    assert "with the recipe's model" in reasons[0]
    assert reasons[1].startswith("kl is ")
    assert "nats from model" in reasons[1]
    page = (folder / "report.html").read_text()
    assert "agreement with the model" in page
    assert "KL divergence" in page
    measured = _measurements(bare, told)
    assert measured.references[0] == "model"
    assert measured.unlabelled
    nats = measured.scored_by.scorer.divergence(
        measured.table("candidate"), measured.table("model")
    )
    assert f"kl is {nats.mean():.2f}"[:9] in reasons[1]


def _measurements(bare: Workshop, told: dict[str, Any]) -> Any:
    from rarefy.pipeline.store.store import Store

    digest = next(row["digest"] for row in told["ledger"] if row["id"] == "validate")
    return answers.load(Store(bare.folder / "home" / "store").open(digest).directory)
