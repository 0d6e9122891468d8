"""Rows that are too long for the model."""

from __future__ import annotations

import json
from dataclasses import replace

from pipeline.run.lengths import Lengths
from pipeline.stage.tasks.token_classification import TokenClassification
from tests.conftest import execute, labelled_rows
from tests.models import LABELS, TASK
from tests.searches import SEARCH, write_search


def test_rows_over_the_length_limit_are_counted_and_said(workshop):
    rows = labelled_rows(20, seed=2)
    rows += [{"text": "film " * words, "label": "positive"} for words in (5, 6, 7, 30)]
    workshop.write_rows("long.jsonl", rows)
    data = {"train": "train.jsonl", "eval": "long.jsonl", "max_length": 8}
    run = workshop.open("quick:Word", data=data)
    run.plan.steps()
    assert not any("max_length" in text for text in run.plan.warnings), "there is no tokenizer yet"
    execute(run)
    over = sum(len(row["text"].split()) + 2 > 8 for row in rows)
    expected = f"eval: {over} rows longer than max_length (8 tokens), truncated"
    assert expected in run.plan.warnings
    assert expected in workshop.open("quick:Word", data=data).plan.warnings
    wide = workshop.open("quick:Word", data=data | {"max_length": 32})
    execute(wide)
    assert not any("max_length" in text and "eval" in text for text in wide.plan.warnings)


def test_windows_are_counted_where_rows_are_answered_in_them(workshop):
    """Twelve words are read four at a time, of which two are new: five windows of six tokens."""
    rows = [{"text": "film " * words, "label": mood} for words in (4, 12) for mood in LABELS]
    for name in ("train.jsonl", "eval.jsonl"):
        workshop.write_rows(name, rows)
    files = {"train": "train.jsonl", "eval": "eval.jsonl", "dev": "eval.jsonl"}
    data = files | {"max_length": 6, "long_texts": "windows"}
    run = workshop.open("quick:Word", data=data)
    run.execute("model")
    counted = run.plan.row_lengths
    assert counted.texts == {"train": 4, "eval": 12, "dev": 12}
    assert counted.tokens == {"train": 24, "eval": 72, "dev": 72}


def test_each_text_of_a_row_is_counted_and_the_corpus_with_eval(workshop):
    write_search(workshop.write_rows)
    run = workshop.open("export", task="sentence-embeddings", data=SEARCH | {"dev": "train.jsonl"})
    run.execute("model")
    counted = run.plan.row_lengths
    assert counted.texts == {"train": 48, "dev": 48, "eval": 12 + 30, "corpus": 30}
    train = map(json.loads, (workshop.folder / "train.jsonl").open())
    words = sum(len(f"{row['query']} {row['positive']}".split()) + 4 for row in train)
    assert counted.tokens["train"] == words


def test_a_long_row_is_said_to_be_cut_where_it_is_only_learned_from():
    found = Lengths(over={"train": 2, "dev": 0, "eval": 1, "unlabelled": 3})
    long = "longer than max_length (32 tokens)"
    assert found.warnings(replace(TASK, windows=True)) == [
        f"train: 2 rows {long}, truncated",
        f"eval: 1 row {long}, read in windows",
        f"unlabelled: 3 rows {long}, truncated",
    ]
    words = found.warnings(TokenClassification(("O", "B-A"), 32, ("text",)))
    assert words[0] == f"train: 2 rows {long}, read in windows", "as plain training does"
