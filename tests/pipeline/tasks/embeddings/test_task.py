"""Sentence embeddings: rows, answers, and recipes through the engine to a verdict."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.measure.predictions import files as answers
from rarefy.pipeline.measure.statistics import scores
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.pooling import KEY
from rarefy.pipeline.release.predict import Bundle
from rarefy.pipeline.report import html
from rarefy.pipeline.run import outcome
from rarefy.pipeline.tasks import load as data
from rarefy.pipeline.tasks.embeddings.predictions import Embedding
from rarefy.pipeline.tasks.embeddings.task import SENTENCE_EMBEDDINGS
from rarefy.pipeline.tasks.task import count_predictions, timed_requests
from rarefy.pipeline.terms.errors import DataError, ModelError
from rarefy.pipeline.terms.recipe_parts import Data
from tests.conftest import VALIDATE, execute
from tests.models import write_model
from tests.searches import CORPUS, PAIRS, SEARCH, lessons, search, write_pairs, write_search

TASK = SENTENCE_EMBEDDINGS.bind((), 8, ("first", "second"))
FILES = {"train": "t.jsonl", "eval": "e.jsonl", "text": ("a", "b")}


def pairs(*rows: tuple[str, str, Any], **changes: Any) -> Split:
    first, second, labels = (list(side) for side in zip(*rows, strict=True))
    labels = None if labels[0] is None else labels
    return Split("train", "t.jsonl", "0", first, second, labels, **changes)


# The data


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": "a"}, r"^data.text: sentence-embeddings takes two columns"),
        ({"label": None}, r"^data.corpus is missing: with label: null, a row is a query"),
        ({"corpus": "c.jsonl"}, r"^data.corpus: .*cannot be combined with scored pairs"),
        ({"negatives": "n"}, r"^data.negatives: .*cannot be combined with scored pairs"),
        ({"label": ("x", "y")}, r"^data.label: sentence-embeddings takes one column"),
    ],
)
def test_a_form_that_data_cannot_have_is_refused(changes, message):
    with pytest.raises(DataError, match=message):
        SENTENCE_EMBEDDINGS.reader.target_columns(Data(**(FILES | changes)))


def read(folder: Any, rows: list[dict[str, Any]], **changes: Any) -> dict[str, Split]:
    for name in ("t.jsonl", "e.jsonl"):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = Data(**(FILES | {"label": "s"} | changes))
    return data.load(table, SENTENCE_EMBEDDINGS.reader, data.locate(table, folder))[0]


def test_scores_of_pairs_are_numbers_on_any_scale(tmp_path):
    rows = [{"a": "x", "b": text, "s": score} for text, score in (("y", 0), ("z", 4.5), ("w", 1))]
    assert read(tmp_path, rows)["eval"].labels == [0.0, 4.5, 1.0]
    with pytest.raises(DataError, match=r"column 's' contains 'good'; sentence-embeddings needs a"):
        read(tmp_path, [{"a": "x", "b": "y", "s": "good"}])
    with pytest.raises(DataError, match=r"t.jsonl: all pairs have the same score"):
        read(tmp_path, [rows[0]] * 3)


@pytest.mark.parametrize(("count", "said"), [(1, "1 row"), (2, "2 rows")])
def test_too_few_scored_pairs_are_refused(tmp_path, count, said):
    rows = [{"a": "x", "b": f"y{at}", "s": at} for at in range(9)]
    for name, found in (("t.jsonl", rows), ("e.jsonl", rows[:count])):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in found))
    for group in (None, "a"):
        table = Data(**(FILES | {"label": "s", "group": group}))
        with pytest.raises(DataError, match=f"e.jsonl: eval has {said}; a correlation of fewer"):
            data.load(table, SENTENCE_EMBEDDINGS.reader, data.locate(table, tmp_path))


def test_equal_scores_of_eval_are_refused_before_anything_runs(tmp_path):
    rows = [{"a": "x", "b": f"y{at}", "s": at} for at in range(9)]
    for name, found in (("t.jsonl", rows), ("e.jsonl", [row | {"s": 2} for row in rows])):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in found))
    table = Data(**(FILES | {"label": "s"}))
    with pytest.raises(DataError, match=r"^e.jsonl: all pairs have the same score$"):
        data.load(table, SENTENCE_EMBEDDINGS.reader, data.locate(table, tmp_path))


# Rows as tokens


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_model(folder, "bert")
    return checkpoint.load_tokenizer(folder)


def test_a_teacher_reads_every_text_alone_and_training_reads_them_together(tokenizer):
    split = pairs(
        ("warm", "warm film", None),
        ("dull", "a dull actor", None),
        negatives=[("cold", "grey"), ()],
    )
    alone = TASK.encoder.examples(tokenizer, split, [0, 1])
    words = [tokenizer.decode(row["input_ids"][1:-1]) for row in alone]
    assert words == ["warm", "dull", "warm film", "a dull actor", "cold", "grey"]
    together = TASK.encoder.training_rows(tokenizer, split, [0, 1])
    keys = ("input_ids", "positive.input_ids", "negative.input_ids")
    words = [[tokenizer.decode(row[key][1:-1]) for key in keys] for row in together]
    assert words == [
        ["warm", "warm film", "cold"],
        ["warm", "warm film", "grey"],
        ["dull", "a dull actor", "a dull actor"],
    ]
    assert np.isnan([row["labels"] for row in together]).all()


def test_a_row_is_as_long_as_its_longest_text_before_it_is_cut(tokenizer):
    split = pairs(("warm " * 20, "film", 1.0), ("dull", "a dull actor", 2.0))
    assert TASK.encoder.lengths(tokenizer, split, [0, 1]) == [22, 5]
    assert max(len(row["input_ids"]) for row in TASK.encoder.encode(tokenizer, split)) == 8


# Its model


@pytest.mark.parametrize("pooling", [None, {"mode": "cls", "normalize": False}])
def test_a_body_keeps_its_pooling_and_a_head_is_left_out(tmp_path, pooling):
    model = write_model(tmp_path, "bert", "AutoModelForSequenceClassification", ("a", "b"))
    if pooling:
        config = json.loads((tmp_path / "config.json").read_text()) | {KEY: pooling}
        (tmp_path / "config.json").write_text(json.dumps(config))
    body = TASK.head.load(str(tmp_path))
    TASK.head.check(body, "here")
    assert getattr(body.config, KEY) == (pooling or {"mode": "mean", "normalize": True})
    batch = {"input_ids": torch.tensor([[2, 8, 3]]), "attention_mask": torch.ones(1, 3).long()}
    states = model.bert(**batch).last_hidden_state[0]
    want = states[0] if pooling else torch.nn.functional.normalize(states.mean(dim=0), dim=0)
    assert torch.allclose(TASK.head.outputs(body, batch)[0], want, atol=1e-6)
    with pytest.raises(ModelError, match=r"^here: BertForSequenceClassification has a head"):
        TASK.head.check(model, "here")


# Answers


def test_a_search_is_kept_as_what_each_query_finds():
    vectors = np.eye(4)[[0, 2, 0, 1, 2, 0]]  # warm, dull; the corpus
    split = search()
    assert TASK.encoder.requests(split) == (["warm", "dull", *CORPUS], None)
    kept, truth = TASK.scorer.retained(vectors, split), TASK.scorer.truth(split)
    assert truth == [{"documents": [0, 3], "bm25": 1.0}, {"documents": [2], "bm25": 1.0}]
    assert TASK.scorer.floor(truth) == 1
    assert TASK.scorer.baseline(truth) == ("BM25", 1)
    assert count_predictions(TASK, truth) == len(kept) == 2
    assert TASK.scorer.correct(kept, truth).tolist() == [True, True]
    assert TASK.presenter.describe_prediction(kept, split) == ["warm film", "a dull actor"]
    assert TASK.presenter.describe_target(split) == ["warm film | warm film", "a dull actor"]
    assert list(TASK.scorer.formulas(truth)) == ["ndcg_10", "recall_10", "mrr_10"]
    assert scores.alone(SENTENCE_EMBEDDINGS, "ndcg_10", kept, truth).value == 1
    worse = TASK.scorer.retained(vectors[[1, 0, 2, 3, 4, 5]], split)
    assert TASK.scorer.correct(worse, truth).tolist() == [False, False]
    assert 0 < scores.alone(SENTENCE_EMBEDDINGS, "mrr_10", worse, truth).value < 1


def test_a_server_is_asked_the_first_text_of_each_row():
    """Queries come one at a time; documents were embedded before."""
    assert timed_requests(TASK, search()) == (["warm", "dull"], None)
    assert timed_requests(TASK, lessons()) == (["warm", "dull"], None)
    assert timed_requests(TASK, pairs(("a", "b", 0.0), ("a", "c", 5.0))) == (["a", "a"], None)


def test_pairs_are_kept_as_their_cosines():
    split = pairs(("a", "b", 0.0), ("a", "c", 5.0), ("b", "b", 4.0))
    assert TASK.encoder.requests(split)[0] == ["a", "b", "c"]
    vectors = np.array([[1.0, 0], [0, 2], [3, 3]])
    kept, truth = TASK.scorer.retained(vectors, split), TASK.scorer.truth(split)
    assert kept[:, 0] == pytest.approx([0, 0.5**0.5, 1])
    assert list(TASK.scorer.formulas(truth)) == ["spearman", "pearson"]
    assert TASK.scorer.floor(truth) == 0
    assert TASK.scorer.baseline(truth) is None
    assert scores.alone(SENTENCE_EMBEDDINGS, "spearman", kept, truth).value == pytest.approx(0.5)
    assert TASK.scorer.correct(kept, truth).tolist() == [True, False, False]
    assert TASK.scorer.agreement(kept, kept + np.array([[0.04], [-0.04], [0.06]])).tolist() == [
        True,
        True,
        False,
    ]
    assert not TASK.scorer.correct(np.full((3, 1), np.nan), truth).any()


def test_an_answer_is_an_embedding():
    (given,) = TASK.presenter.answers(np.array([[0.6, 0.8, 0, 0, 0, 0]]))
    assert given == Embedding([0.6, 0.8, 0, 0, 0, 0])


# Through the engine


def check_answers(bundle: Any) -> None:
    """The bundle, its own runner and its samples give the same embeddings."""
    request = json.loads((bundle / "samples/request.json").read_text())
    stored = json.loads((bundle / "samples/response.json").read_text())["predictions"]
    vectors = [answer.vector for answer in Bundle(bundle).predict(request["texts"])]
    alone = subprocess.run(
        [sys.executable, bundle / "predict.py"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(alone.stdout)["predictions"] == stored
    assert [np.round(vector, 6).tolist() for vector in vectors] == [row["vector"] for row in stored]


@pytest.mark.slow
def test_a_search_goes_through_every_stage(workshop, known_times):
    write_search(workshop.write_rows)
    workshop.widen()
    run = workshop.open(
        {"finetune": {"epochs": 1}},
        {"distill": {"keep_layers": 1, "epochs": 1}},
        {
            "prune": {
                "remove_heads": "25 %",
                "remove_neurons": "25 %",
                "vocabulary": True,
                "calibration_rows": 16,
            }
        },
        {"factorize": {"keep_weights": 0.95, "calibration_rows": 16}},
        {"adapt": {"teacher": "finetune", "epochs": 1}},
        {"quantize": {"calibration_rows": 16}},
        "merge",
        "export",
        VALIDATE,
        task="sentence-embeddings",
        data=SEARCH,
        budgets=[
            {"metric": "ndcg_10", "min_retained": "10 %", "against": "finetune"},
            {"metric": "agreement", "min": "1 %"},
        ],
    )
    finished = execute(run)
    first = finished["export"].scores[0]
    assert (first.name, first.n) == ("ndcg_10", 12)
    assert len(finished["model"].scores) == 3, "a body answers without a head"
    measured = answers.load(finished["validate"].artifact.directory)
    assert set(measured.models) == {"candidate", "finetune"}
    assert measured.score("ndcg_10", "candidate").value == pytest.approx(first.value, abs=1e-6)
    assert set(measured.samples[0]) == {"kind", "text", "truth", "reference", "candidate"}
    page = html.render(outcome.conclude(run, "rarefy run trial.yaml").data)
    assert re.search(r"BM25 \(no model\) scores [0-9.]+% nDCG@10", page)
    check_answers(finished["export"].artifact.directory)


@pytest.mark.slow
def test_scored_pairs_are_learned_and_compared(workshop, known_times):
    write_pairs(workshop.write_rows)
    finished = workshop.run(
        {"finetune": {"epochs": 1}},
        "export",
        VALIDATE,
        task="sentence-embeddings",
        data=PAIRS,
        budgets=[{"metric": "spearman", "min_retained": "10 %", "against": "finetune"}],
    )
    assert [score.name for score in finished["export"].scores] == ["spearman", "pearson"]
    measured = answers.load(finished["validate"].artifact.directory)
    # The answers are rounded, and this model's cosines are all near 1, so some are equal then.
    assert measured.score("pearson", "candidate").value == pytest.approx(
        finished["export"].scores[1].value, abs=1e-3
    )
    assert "pair" in measured.samples[0]


@pytest.mark.slow
def test_a_body_is_exported_and_its_corpus_is_part_of_the_fingerprints(workshop):
    write_search(workshop.write_rows)
    values = {"task": "sentence-embeddings", "data": SEARCH, "budgets": []}
    finished = workshop.run("export", **values)
    assert finished["export"].scores[0].value == pytest.approx(
        finished["model"].scores[0].value, abs=1e-3
    )
    path = workshop.folder / "corpus.jsonl"
    path.write_text(path.read_text() + '{"id": "new", "text": "a warm film"}\n')
    again = workshop.run("export", **values)
    assert again["model"].cached
    assert again["export"].scores[0] != finished["export"].scores[0]


def test_an_unknown_document_is_one_line_with_exit_code_2(workshop, rarefy):
    write_search(workshop.write_rows)
    workshop.write_rows("eval.jsonl", [{"query": "warm", "positive": "nowhere"}])
    recipe = workshop.recipe("export", task="sentence-embeddings", data=SEARCH)
    said = rarefy("plan", recipe, "--home", workshop.folder / "home")
    assert said.code == 2
    assert "'nowhere', which is not an id in corpus.jsonl" in " ".join(said.err.split())
