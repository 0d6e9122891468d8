"""Rows as sequences of tokens: a text or a pair, cut to the limit."""

from __future__ import annotations

import pytest

from pipeline.model import checkpoint
from pipeline.stage.split import Split
from pipeline.stage.tasks.text_classification import TEXT_CLASSIFICATION
from tests.models import LABELS, write_encoder, write_model

TASK = TEXT_CLASSIFICATION.bind(LABELS, 6, ("text",))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("task") / "encoder", layers=1, hidden=16)


def test_rows_are_cut_to_the_limit_and_their_whole_length_is_known(encoder):
    tokenizer = checkpoint.load_tokenizer(encoder)
    split = Split(
        "eval", "f", "0" * 64, ["the film", "a very fine story with a scene"], None, [0, 1]
    )
    short, long = TASK.encoder.encode(tokenizer, split)
    assert (len(short["input_ids"]), len(long["input_ids"])) == (4, 6)
    assert TASK.encoder.lengths(tokenizer, split, [0, 1]) == [4, 9]
    assert TASK.encoder.encode(tokenizer, split, [1]) == [long]
    assert TASK.encoder.encode(tokenizer, split, []) == []


def test_a_pair_is_two_segments(encoder):
    tokenizer = checkpoint.load_tokenizer(encoder)
    (row,) = TASK.encoder.encode(tokenizer, Split("eval", "f", "0" * 64, ["film"], ["story"], [0]))
    assert tokenizer.decode(row["input_ids"]) == "[CLS] film [SEP] story [SEP]"


LONG = ["the film", "a very fine story with a scene and the actor is warm", "dull"]


def long_task(labels=LABELS):
    return TEXT_CLASSIFICATION.bind(labels, 6, ("text",), windows=True)


def test_long_texts_are_read_in_windows_if_the_recipe_says_so(encoder):
    tokenizer = checkpoint.load_tokenizer(encoder)
    split = Split("eval", "f", "0" * 64, LONG, None, [0, 1, 0])
    rows = long_task().encoder.encode_requests(tokenizer, split)
    owners = [row["row"] for row in rows]
    assert owners == sorted(owners)
    assert owners.count(0) == owners.count(2) == 1
    assert owners.count(1) == 5, "twelve words, four at a time, two of them new"
    assert all(len(row["input_ids"]) <= 6 for row in rows)
    assert [len(row["input_ids"]) for row in long_task().encoder.encode(tokenizer, split)] == [
        4,
        6,
        3,
    ]


@pytest.mark.slow
def test_a_bundle_answers_long_texts_by_the_mean_of_their_windows(tmp_path):
    import json
    import subprocess
    import sys

    import numpy as np

    from exporters.build import build
    from pipeline.measure import accuracy
    from pipeline.release.answering import Bundle

    task, model = long_task(), tmp_path / "model"
    model.mkdir()
    write_model(model, "bert", "AutoModelForSequenceClassification", LABELS)
    split = Split("eval", "f", "0" * 64, LONG, None, [0, 1, 0])
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    build(model, bundle, task=task, split=split, form="deploy")
    options = {"provider": "cpu", "threads": 1, "progress": lambda *_: None}
    found = accuracy.bundle_answers(bundle, task, split, **options)
    exact = accuracy.checkpoint_answers(model, task, split, lambda *_: None)
    np.testing.assert_allclose(found, exact, atol=1e-5)
    cut = accuracy.checkpoint_answers(model, TASK, split, lambda *_: None)
    assert np.abs(exact - cut)[1].max() > 1e-4, "the rest of the text counts"
    given = [[*answer.probabilities.values()] for answer in Bundle(bundle).predict(LONG)]
    np.testing.assert_allclose(given, found, atol=1e-6)
    said = subprocess.run(
        [sys.executable, "predict.py", *LONG], cwd=bundle, capture_output=True, check=True
    )
    answers = json.loads(said.stdout)["predictions"]
    alone = [[*answer["probabilities"].values()] for answer in answers]
    np.testing.assert_allclose(alone, found, atol=1e-5)
