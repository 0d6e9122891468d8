"""Multi-label classification: rows with lists of labels, its head, losses and answers."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import rarefy
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.measure.measurements import Measurements
from rarefy.pipeline.measure.predictions import files as stored
from rarefy.pipeline.measure.predictions import predict as accuracy
from rarefy.pipeline.measure.statistics import scores
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.run.plan.plan import Plan
from rarefy.pipeline.store.artifact import Artifact
from rarefy.pipeline.store.store import Store
from rarefy.pipeline.tasks import unlabelled
from rarefy.pipeline.tasks.classification import multi_label_scores
from rarefy.pipeline.tasks.classification.multi_label import MULTI_LABEL_CLASSIFICATION
from rarefy.pipeline.terms.errors import DataError, RarefyError
from tests.conftest import QUICK, VALIDATE
from tests.models import write_encoder
from tests.multi_label import LABELS, TASK, rows

ONE = MULTI_LABEL_CLASSIFICATION.bind(LABELS, 32, ("text",))
DATA = {"train": "train.jsonl", "eval": "eval.jsonl", "label": "labels", "dev": "25 %"}
SPLIT = Split("dev", "f", "0" * 64, ["film", "scene", "actor"], None, [(0, 2), (), (1,)])


@pytest.fixture
def desk(workshop: Any) -> Any:
    """A workshop with rows that have lists of labels."""
    workshop.write_rows("train.jsonl", rows(48))
    workshop.write_rows("eval.jsonl", rows(24, seed=1))
    return workshop


def config_of(artifact: Artifact) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((artifact.directory / "config.json").read_text())
    return config


def read(workshop: Any, **data: Any) -> Any:
    """Return the plan of a recipe for these data."""
    return workshop.open("finetune", task=TASK, data=DATA | data).plan


def summary(workshop: Any, **data: Any) -> Any:
    """Read the data, and return what is known of them."""
    return read(workshop, **data).summary


def test_a_row_has_any_number_of_labels_or_none(desk):
    plan = read(desk)
    split = plan.splits["eval"]
    assert plan.labels == sorted(LABELS)
    assert plan.summary.rows["eval"] == 24
    wanted = [row["labels"] for row in rows(24, seed=1)]
    assert plan.task.presenter.describe_target(split) == [
        ", ".join(names) or "(none)" for names in wanted
    ]
    truth = plan.task.scorer.truth(split)
    assert truth == [[int(label in names) for label in plan.labels] for names in wanted]
    assert plan.summary.counts["eval"] == dict.fromkeys(LABELS, 12)


def test_columns_of_0_and_1_are_the_same_rows(desk):
    lists = read(desk)
    assert len(lists.splits["train"]) == 36
    for name, count, seed in (("train.jsonl", 48, 0), ("eval.jsonl", 24, 1)):
        flags = [
            {"text": row["text"]} | {label: int(label in row["labels"]) for label in LABELS}
            for row in rows(count, seed)
        ]
        desk.write_rows(name, flags)
    columns = read(desk, label=["people", "good", "bad"])
    assert columns.labels == lists.labels
    for name in ("train", "dev", "eval"):
        assert list(columns.splits[name].labels) == list(lists.splits[name].labels)


def test_the_labels_of_a_csv_file_are_a_list_as_text_or_separated(desk):
    path = desk.folder / "eval.csv"
    lines = [
        'one,"[""bad"", ""good""]"',
        "two,\"['people']\"",
        "three,good; bad",
        "four,[]",
        "five,",
    ]
    path.write_text("\n".join(["text,labels", *lines]) + "\n")
    plan = read(desk, eval="eval.csv")
    assert plan.task.presenter.describe_target(plan.splits["eval"]) == [
        "bad, good",
        "people",
        "bad, good",
        "(none)",
    ]
    assert "eval: 1 row without a label left out" in plan.summary.warnings


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["good", "bad", "good"], "the label 'good' is in the list twice"),
        (["good", ""], "a label is ''; labels are names or integers"),
        (
            3,
            "3 is not a list of labels; multi-label-classification needs one in each row, or "
            "several",
        ),
        ("[good, bad]", "[good, bad] is neither a JSON nor a Python list"),
    ],
)
def test_what_is_no_list_of_labels_is_refused_with_its_row(desk, labels, said):
    desk.write_rows("eval.jsonl", [{"text": "film", "labels": labels}])
    with pytest.raises(DataError, match=r"^eval\.jsonl: row 1: ") as found:
        summary(desk)
    assert said in str(found.value)
    assert "\n" not in str(found.value)


def test_labels_that_train_lacks_are_refused(desk):
    desk.write_rows("eval.jsonl", [{"text": "film", "labels": ["good", "ugly"]}])
    with pytest.raises(DataError, match="eval has the label 'ugly', which does not occur"):
        summary(desk)


def test_train_needs_a_label(desk):
    desk.write_rows("train.jsonl", [{"text": "film", "labels": []}] * 4)
    desk.write_rows("eval.jsonl", [{"text": "film", "labels": []}] * 4)
    with pytest.raises(DataError, match=r"train\.jsonl: no row of train has a label"):
        summary(desk)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"a": 1, "b": 2}, "train.jsonl: row 2: column 'b' has '2', not 0 or 1"),
        ({"a": 1, "b": 0}, "train.jsonl: column 'b' is 0 in every row, so its label cannot be"),
    ],
)
def test_columns_of_something_else_are_refused(desk, flags, said):
    desk.write_rows("train.jsonl", [{"text": "film", "a": 1, "b": 0}, {"text": "film"} | flags])
    with pytest.raises(DataError) as found:
        summary(desk, label=["a", "b"])
    assert said in str(found.value)


def test_one_column_of_0_and_1_as_text_is_no_column_of_lists(desk):
    train = desk.folder / "train.csv"
    train.write_text("text,toxic\nfilm,0\nscene,1\nactor,\n")
    for label in ("toxic", ["toxic"]):
        with pytest.raises(
            DataError, match="'toxic' has only 0 and 1, and is not a list of labels"
        ):
            summary(desk, train="train.csv", eval="train.csv", label=label)
    train.write_text("text,toxic\nfilm,0\nscene,1\nactor,0;1\n")
    assert summary(desk, train="train.csv", eval="train.csv", label="toxic").labels == ["0", "1"]


def test_rows_need_labels_or_a_model_that_gives_them(desk):
    with pytest.raises(RarefyError, match="the model has no head for multi-label-classification"):
        read(desk, label=None).steps()


def test_a_label_column_named_twice_is_refused(desk):
    with pytest.raises(DataError, match=r"data\.label: the column 'a' is named twice"):
        summary(desk, label=["a", "b", "a"])


def test_a_row_without_labels_teaches_that_none_applies_and_an_unlabelled_one_nothing(tmp_path):
    tokenizer = checkpoint.load_tokenizer(write_encoder(tmp_path / "encoder", layers=1, hidden=16))
    found = ONE.encoder.examples(tokenizer, SPLIT, [1, 0])
    assert [row["labels"] for row in found] == [[0, 0, 0], [1, 0, 1]]
    bare = Split("unlabelled", "f", "0" * 64, ["film"], None, None)
    (row,) = ONE.encoder.examples(tokenizer, bare, [0])
    batch = {"labels": torch.tensor([row["labels"], [1, 0, 1]])}
    outputs = torch.tensor([[9.0, 9.0, 9.0], [0.0, 0.0, 0.0]])
    assert ONE.objective.loss(outputs, batch, total=False).item() == pytest.approx(np.log(2))
    assert ONE.objective.loss(outputs[:1], {"labels": batch["labels"][:1]}, total=False).item() == 0


def test_the_divergence_of_a_row_is_the_sum_over_its_labels():
    # p = 0.8 against q = 0.5, and equal answers: 0.8 ln 1.6 + 0.2 ln 0.4.
    exact, other = torch.tensor([[np.log(4.0), 40.0, 1.0]]), torch.tensor([[0.0, 40.0, 1.0]])
    expected = 0.8 * np.log(1.6) + 0.2 * np.log(0.4)
    assert ONE.objective.divergence(exact, other).tolist() == pytest.approx([expected])


def test_the_head_is_for_several_labels(tmp_path):
    write_encoder(tmp_path / "encoder", layers=1, hidden=16)
    model = ONE.head.load(str(tmp_path / "encoder"))
    config = model.config.to_dict() | {"architectures": ["BertForSequenceClassification"]}
    assert ONE.head.width(model) == 3
    assert ONE.head.labels_of(config) == list(LABELS)
    assert ONE.head.labels_of(config | {"problem_type": "single_label_classification"}) is None
    assert ONE.head.labels_of(config | {"problem_type": None}) is None


def test_thresholds_decide_the_answers_and_are_kept_by_label():
    logits = np.array([[2.0, -3.0, 0.0], [-1.0, -4.0, 0.1], [-2.0, 1.0, -1.0]])
    chosen = ONE.head.choose(logits, SPLIT)
    expected = multi_label_scores.thresholds(
        1 / (1 + np.exp(-logits)), np.array(ONE.scorer.truth(SPLIT))
    )
    assert list(chosen["thresholds"].values()) == pytest.approx(expected)
    again = ONE.of_model(chosen)
    assert again.settings == chosen
    found = again.head.predictions(logits)
    assert found.shape == (3, 6)
    np.testing.assert_array_equal(found[:, 3:], found[:, :3] >= np.array(expected))
    given = [row.labels for row in again.presenter.answers(found)]
    assert [", ".join(row) or "(none)" for row in given] == again.presenter.describe_prediction(
        found, SPLIT
    )
    assert ONE.of_model({}).settings == {"thresholds": dict.fromkeys(LABELS, 0.5)}


def test_a_label_is_missed_in_a_row_that_has_it_rightly():
    truth = [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    decided = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0]])
    answers = np.hstack([np.full((3, 3), 0.5), decided])
    rows, changed = ONE.scorer.missed_labels(answers, truth)
    assert rows.tolist() == [0, 1], "the third label is found nowhere"
    assert changed[:, 3:].tolist() == [[0, 1, 0], [1, 0, 0]]
    assert (answers[:, 3:] == decided).all()
    rows, changed = ONE.scorer.new_labels(answers, truth)
    assert rows.tolist() == [0, 1, 2]
    assert changed[:, 3:].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert changed[:, :3].argmax(axis=1).tolist() == [0, 1, 2]
    assert [len(side) for side in ONE.scorer.new_labels(answers[:2], [[0, 1, 0]] * 2)] == [1, 1]


def test_a_row_is_right_if_all_its_labels_are():
    answers = np.array(
        [[0.9, 0.1, 0.9, 1, 0, 1], [0.1, 0.1, 0.6, 0, 0, 1], [np.nan] * 6], dtype=float
    )
    truth = ONE.scorer.truth(SPLIT)
    assert ONE.scorer.correct(answers, truth).tolist() == [True, False, False]
    other = answers.copy()
    other[1, 5] = 0
    assert ONE.scorer.agreement(answers[:2], other[:2]).tolist() == [True, False]
    assert ONE.presenter.describe_prediction(answers, SPLIT) == [
        "bad, people",
        "people",
        "not a number",
    ]
    assert ONE.presenter.answers(answers)[0].columns()[0] == "bad, people"
    assert ONE.presenter.answers(other)[1].columns()[0] == "(none)"
    # Of the second row, the third probability is 0.1 from its threshold and no closer.
    moved = answers[:2] - 0.01
    assert ONE.head.rounding(moved, moved).decided.tolist() == [True, False]


def test_nan_outputs_are_wrong_whatever_the_truth():
    found = ONE.head.predictions(np.array([[np.nan, -5.0, -5.0], [0.0, -5.0, -5.0]]))
    assert ONE.scorer.correct(found, [[0, 0, 0], [1, 0, 0]]).tolist() == [False, True]


@pytest.mark.slow
def test_a_recipe_runs_to_its_bundle_whose_runner_says_the_same(desk, known_times):
    desk.widen()
    finished = desk.run(
        {"finetune": {"epochs": 4, "learning_rate": 5e-3, "batch_size": 8}},
        {"distill": {"keep_layers": 1, "epochs": 2}},
        {"prune": {"remove_neurons": "25 %", "vocabulary": True, "calibration_rows": 16}},
        {"factorize": {"keep_weights": 0.95, "calibration_rows": 16}},
        {"adapt": {"epochs": 1, "rank": 2}},
        {"quantize": {"mode": "static", "calibration_rows": 16}},
        "merge",
        "export",
        VALIDATE,
        task=TASK,
        data=DATA,
        budgets=[{"metric": "micro_f1", "min_retained": "97 %", "against": "finetune"}],
    )
    names = [metric.name for metric in finished["export"].scores]
    assert names == list(MULTI_LABEL_CLASSIFICATION.scorer.scores)
    for step in ("finetune", "distill", "prune", "adapt", "quantize", "merge", "export"):
        assert list(config_of(finished[step].artifact)["thresholds"]) == list(LABELS), step
    bundle = finished["export"].artifact.directory
    measured = stored.load(finished["validate"].artifact.directory)
    _same_everywhere(bundle, measured)
    # The reference is the teacher with the teacher's own thresholds, not with any of the eval rows.
    teacher = measured.score("micro_f1", "finetune").value
    assert teacher == pytest.approx(finished["finetune"].scores[0].value)
    # The bundle is int8: its thresholds are the best for its own answers to the development rows.
    plan = desk.open("export", task=TASK, data=DATA).plan
    task, split = plan.task, plan.splits["dev"]
    chosen = task.head.choose(BundleModel(bundle).units(*task.encoder.requests(split)), split)
    assert config_of(finished["export"].artifact)["thresholds"] == chosen["thresholds"]


def _same_everywhere(bundle: Path, measured: Measurements) -> None:
    """Check predict.py and rarefy.Bundle against what ``validate`` stored."""
    texts = [row["text"] for row in rows(24, seed=1)]
    table = measured.table("candidate")
    wanted = [
        [label for label, given in zip(LABELS, row[3:], strict=True) if given] for row in table
    ]
    ours = rarefy.Bundle(bundle).predict(texts)
    assert [given.labels for given in ours] == wanted
    found = subprocess.run(
        [sys.executable, bundle / "predict.py", *texts], capture_output=True, check=True, text=True
    )
    theirs = json.loads(found.stdout)["predictions"]
    assert [given["labels"] for given in theirs] == wanted
    for given, row in zip(theirs, table, strict=True):
        assert list(given["probabilities"].values()) == pytest.approx(row[:3].tolist(), abs=2e-6)


# Rows without labels


def test_a_model_s_own_labels_can_be_targets():
    answers = ONE.head.predictions(np.array([[2.0, -3.0, 0.1], [-1.0, -4.0, -0.1]]))
    targets = ONE.objective.targets(answers, SPLIT)
    assert targets == [[0, 2], []]
    assert json.loads(json.dumps(targets)) == targets
    sharp = ONE.of_model({"thresholds": {"bad": 0.9, "good": 0.01, "people": 0.5}})
    assert sharp.objective.targets(sharp.head.predictions(np.array([[2.0, -3.0, 0.1]])), SPLIT) == [
        [1, 2]
    ]
    bare = unlabelled.without_labels(MULTI_LABEL_CLASSIFICATION).bind(LABELS, 32, ("text",))
    truth = bare.scorer.truth(replace(SPLIT, labels=[*targets, [1]]))
    assert truth == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert list(bare.scorer.formulas(truth)) == ["agreement"]
    assert scores.alone(bare, "agreement", answers, truth[:2]).value == 1


def test_the_divergence_is_the_sum_of_scipys_over_labels():
    draw = np.random.default_rng(0)
    ours, theirs = draw.random((20, 3)), draw.random((20, 3))
    tables = [np.hstack([side, side >= 0.5]) for side in (ours, theirs)]
    expected = [
        sum(stats.entropy([q, 1 - q], [p, 1 - p]) for p, q in zip(*pair, strict=True))
        for pair in zip(ours, theirs, strict=True)
    ]
    assert ONE.scorer.divergence(*tables) == pytest.approx(expected)
    sure = np.array([[1.0, 0.0, 0.5, 1, 0, 1]])
    assert np.isfinite(ONE.scorer.divergence(sure, 1 - sure)).all()
    assert ONE.scorer.divergence(sure, sure).tolist() == [0]


@pytest.mark.slow
def test_without_labels_the_model_s_own_labels_are_the_truth(
    desk, rarefy, monkeypatch, known_times
):
    monkeypatch.setenv("RAREFY_HOME", str(desk.folder / "home"))
    taught = desk.run(
        {"finetune": {"epochs": 8, "learning_rate": 5e-3, "batch_size": 8}}, task=TASK, data=DATA
    )["finetune"].artifact
    for name, seed in (("train", 0), ("eval", 1)):
        desk.write_rows(f"{name}.jsonl", [{"text": row["text"]} for row in rows(48, seed)])
    recipe = desk.recipe(
        {"distill": {"keep_layers": 1, "epochs": 4, "learning_rate": 5e-3, "batch_size": 8}},
        "export",
        {"validate": QUICK},
        model=str(taught.directory),
        task=TASK,
        data=DATA | {"label": None},
        budgets=[{"metric": "agreement", "min": "1 %"}, {"metric": "kl", "max": 3}],
    )
    said = rarefy("run", recipe, "--engine", "inline", "--json")
    assert said.code == 0, said.err
    told = json.loads(said.out)
    digests = {row["id"]: row["digest"] for row in told["ledger"]}
    store = Store(desk.folder / "home" / "store")
    own = config_of(store.open(digests["model"]))["thresholds"]
    assert own == config_of(taught)["thresholds"], "the model that answers keeps its thresholds"
    measured = stored.load(store.open(digests["validate"]).directory)
    assert (measured.unlabelled, measured.main) == (True, "agreement")
    assert measured.score("agreement", "model").value == 1
    reasons = [budget["reason"] for budget in told["budgets"]]
    assert "nats from model" in reasons[1]
    plan = Plan(recipes.load(recipe), store)
    student = store.open(digests["distill"])
    outputs = accuracy.checkpoint_outputs(
        student.directory, plan.task, plan.splits["dev"], lambda *_: None
    )
    chosen = plan.task.head.choose(outputs, plan.splits["dev"])["thresholds"]
    assert config_of(student)["thresholds"] == pytest.approx(chosen), "by the model's own labels"
