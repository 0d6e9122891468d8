"""Another system's predictions: joined, counted, learned and compared with."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.run.outcome import conclude
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.terms.errors import ModelError, RecipeError
from rarefy.stages.distill import Distill
from rarefy.stages.label import Label
from rarefy.stages.transfer import files as transfer_set
from tests.conftest import QUICK, execute, labelled_rows
from tests.models import LABELS, artifact_of, sentences

LABEL = {"label": {"file": "made.jsonl"}}
STUDENT = {
    "distill": {
        "keep_layers": 1,
        "epochs": 15,
        "learning_rate": 5e-3,
        "batch_size": 8,
        "transfer": "label",
    }
}


def predicted(count, seed, wrong=0):
    """Return rows with the probabilities of their labels, the first ``wrong`` ones false."""
    rows = []
    for number, row in enumerate(labelled_rows(count, seed)):
        likely = 0.1 if number < wrong else 0.9
        probabilities = dict.fromkeys(LABELS, 1 - likely) | {row["label"]: likely}
        rows.append({"text": row["text"], "probabilities": probabilities})
    return rows


def test_rows_without_a_prediction_are_counted_and_the_labels_compared(workshop, caplog):
    caplog.set_level(logging.WARNING)
    workshop.write_rows("made.jsonl", predicted(24, 0, wrong=6)[:20])
    finished = workshop.run(
        LABEL, data={"train": "train.jsonl", "eval": "eval.jsonl", "dev": "30 %"}
    )
    artifact = finished["label"].artifact
    metrics = {(each.name, each.split): each.value for each in artifact.manifest.metrics}
    rows = metrics["rows", "train"] + metrics["rows", "dev"]
    assert rows == 20
    assert rows + metrics["rows_left_out", "train"] + metrics["rows_left_out", "dev"] == 24
    right = sum(metrics["accuracy", name] * metrics["rows", name] for name in ("train", "dev"))
    assert right == pytest.approx(14)
    assert "label: made.jsonl: predictions for " in caplog.text
    assert "; accuracy against the labels of train: " in caplog.text


@pytest.fixture
def learn(make_context, tiny_encoder, tmp_path):
    """Label rows by a file, and let a student of one layer learn them."""

    def run(rows, **parameters):
        context = make_context()
        made = [{"text": text, "label": LABELS[label]} for text, label in rows]
        lines = [f'{{"text": "{row["text"]}", "label": "{row["label"]}"}}\n' for row in made]
        (tmp_path / "made.jsonl").write_text("".join(lines))
        draft = Label(file="made.jsonl").run(context, None)
        labelled = artifact_of(context.output, Kind.TRANSFER_SET)
        student = make_context(artifacts={"label": labelled})
        stage = Distill(
            **{
                "keep_layers": 1,
                "transfer": "label",
                "learning_rate": 5e-3,
                "epochs": 15,
                "batch_size": 8,
            }
            | parameters
        )
        return draft, stage.run(student, tiny_encoder), student

    return run


def test_a_student_of_an_encoder_learns_the_predictions_and_only_rows_with_one(learn):
    texts, labels = sentences(64)
    inverted = [(text, 1 - label) for text, label in zip(texts, labels, strict=True)]
    _, draft, student = learn(inverted[:48], alpha=1.0)
    assert {each.name: each.value for each in draft.metrics}["rows"] == 48
    network = checkpoint.load(student.output)
    tokenizer = checkpoint.load_tokenizer(student.output)
    with torch.no_grad():
        answers = network(**tokenizer(texts[48:], return_tensors="pt", padding=True)).logits
    assert np.mean(answers.argmax(-1).numpy() != np.array(labels[48:])) > 0.8


def test_the_best_weights_need_development_rows_with_predictions(learn):
    rows = list(zip(*sentences(64), strict=True))
    with pytest.raises(ModelError, match="no row of dev has a prediction in 'label'"):
        learn(rows, keep="best")


def test_texts_of_a_transfer_set_are_answered_too(make_context, tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    transfer_set.write(texts, [("new", None), ("unknown", None), ("newer", None)])
    lines = ['{"text": "new", "label": "positive"}', '{"text": "newer", "label": "negative"}']
    train, _ = sentences(64)
    lines += [f'{{"text": "{text}", "label": "positive"}}' for text in train]
    (tmp_path / "made.jsonl").write_text("\n".join(lines))
    context = make_context(artifacts={"augment": artifact_of(texts, Kind.TRANSFER_SET)})
    draft = Label(file="made.jsonl", transfer="augment").run(context, None)
    artifact = artifact_of(context.output, Kind.TRANSFER_SET)
    assert list(transfer_set.split(artifact, tmp_path / "work").texts) == ["new", "newer"]
    answers = transfer_set.answers(artifact)
    assert answers["transfer"].argmax(-1).tolist() == [1, 0]
    assert draft.model["texts"] == 2
    assert len(answers["train"]) == 64


def test_too_few_predictions_are_an_error_before_anything_runs(workshop):
    workshop.write_rows("made.jsonl", predicted(4, 0))
    run = workshop.open(LABEL)
    with pytest.raises(
        RecipeError, match=r"made.jsonl: predictions for \d of 2\d rows of train; at"
    ):
        run.plan.steps()


def test_a_wrong_file_is_an_error_before_anything_runs(workshop):
    workshop.write_rows("made.jsonl", [{"text": "a film", "label": "sports"}])
    with pytest.raises(RecipeError, match=r"made.jsonl: row 1: 'sports' is not one of the labels"):
        workshop.open("quick:Head", LABEL).plan.steps()


def test_another_file_is_another_artifact_and_another_model_is_not(workshop):
    workshop.write_rows("made.jsonl", predicted(24, 0))
    first = workshop.run("quick:Head", LABEL)["label"]
    again = workshop.run({"quick:Head": {"fill": "1"}}, LABEL)["label"]
    assert again.cached
    workshop.write_rows("made.jsonl", predicted(24, 0, wrong=1))
    other = workshop.run("quick:Head", LABEL)["label"]
    assert not other.cached
    assert other.artifact.digest != first.artifact.digest


def test_rows_are_joined_by_their_ids(workshop):
    for name, seed in (("train", 0), ("eval", 1)):
        rows = labelled_rows(24, seed)
        numbered = [row | {"number": f"{name}-{at}"} for at, row in enumerate(rows)]
        workshop.write_rows(f"{name}.jsonl", numbered)
    made = [{"key": f"train-{at}", "label": LABELS[at % 2]} for at in range(24)]
    workshop.write_rows("made.jsonl", made)
    data = {"train": "train.jsonl", "eval": "eval.jsonl", "id": "number"}
    finished = workshop.run({"label": {"file": "made.jsonl", "id": "key"}}, data=data)
    metrics = finished["label"].artifact.manifest.metrics
    assert sum(each.value for each in metrics if each.name == "rows") == 24
    assert {each.value for each in metrics if each.name == "accuracy"} == {1.0}


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"file": "made.jsonl", "teachers": ["model"]}, "'file' has the predictions; remove 'tea"),
        ({"file": "made.jsonl", "engine": "int8"}, "'file' has the predictions; remove 'engine'"),
        ({"id": "key"}, "'id' needs 'file'"),
    ],
)
def test_options_that_mean_nothing_are_refused(workshop, parameters, problem):
    with pytest.raises(RecipeError, match=problem):
        workshop.open({"label": parameters})


def test_predictions_of_a_file_join_no_average(workshop):
    workshop.write_rows("made.jsonl", predicted(24, 0))
    stages = ("quick:Head", LABEL, {"label": {"answers": "label"}, "as": "mean"})
    with pytest.raises(RecipeError, match="answers: 'label' has those of a file, which cannot be"):
        workshop.open(*stages).plan.steps()


CHAIN = (LABEL, STUDENT, "export", {"validate": {"predictions": ["label"], **QUICK}})


def test_a_budget_on_time_against_a_file_is_refused(workshop):
    workshop.write_rows("made.jsonl", predicted(24, 0) + predicted(12, 1))
    budget = {"metric": "latency_p50", "min_speedup": 2, "against": "label"}
    with pytest.raises(
        RecipeError, match=r"'label' has predictions of a file alone, so it has no l"
    ):
        workshop.open(*CHAIN, budgets=[budget]).plan.steps()


def test_a_budget_on_a_score_against_a_file_is_planned(workshop):
    workshop.write_rows("made.jsonl", predicted(24, 0) + predicted(12, 1))
    budget = {"metric": "recall_99.5_precision", "max_drop": "3 points", "against": "label"}
    workshop.open(*CHAIN, budgets=[budget]).plan.steps()


def test_a_budget_against_a_file_that_is_not_compared_says_where_to_name_it(workshop):
    workshop.write_rows("made.jsonl", predicted(24, 0))
    budget = {"metric": "accuracy", "max_drop": "3 points", "against": "label"}
    chain = (*CHAIN[:3], {"validate": QUICK})
    with pytest.raises(RecipeError, match=r"'label' is not measured .* 'predictions' of validate"):
        workshop.open(*chain, budgets=[budget]).plan.steps()


def test_a_comparison_needs_a_file_with_all_eval_rows(workshop):
    workshop.write_rows("made.jsonl", predicted(24, 0))
    with pytest.raises(
        RecipeError, match=r"no prediction for 12 of 12 rows of eval.jsonl, which a"
    ):
        workshop.open(*CHAIN).plan.steps()


def test_a_comparison_needs_a_stage_with_a_file(workshop):
    chain = ("quick:Head", "label", "export", {"validate": {"predictions": ["label"], **QUICK}})
    with pytest.raises(RecipeError, match=r"predictions: 'label' has no file of predictions; name"):
        workshop.open(*chain).plan.steps()


def test_without_answers_a_model_without_a_head_is_no_teacher(workshop):
    distill = {"distill": {"keep_layers": 1, "transfer": "augment"}}
    with pytest.raises(RecipeError, match="its teacher, but the input is an encoder; put 'fin"):
        workshop.open("augment", distill).plan.steps()


@pytest.mark.slow
def test_a_verdict_compares_the_bundle_with_the_file(workshop):
    workshop.write_rows("train.jsonl", labelled_rows(96, seed=0))
    workshop.write_rows("eval.jsonl", labelled_rows(64, seed=1))
    workshop.write_rows("made.jsonl", predicted(96, 0) + predicted(64, 1, wrong=16))
    budgets = [
        {"metric": "accuracy", "max_drop": "1 point", "against": "label"},
        {"metric": "agreement", "min": 0.5},
    ]
    run = workshop.open(*CHAIN, budgets=budgets)
    execute(run)
    outcome = conclude(run, "rarefy run")
    measured = outcome.data.measurements
    assert measured.score("accuracy", "label").value == pytest.approx(0.75)
    first, second = outcome.data.verdict.budgets
    assert first.against == "label"
    assert first.outcome == "pass"  # the student has learned from right predictions alone
    assert "with distill" in second.reason
    row = next(row for row in outcome.data.ledger if row.id == "label")
    assert row.accuracy[0] == pytest.approx(0.75)
    assert "label" not in measured.models
