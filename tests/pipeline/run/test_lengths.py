"""Rows that are too long for the model."""

from __future__ import annotations

from dataclasses import replace

from pipeline.run.lengths import Lengths
from pipeline.stage.tasks.token_classification import TOKEN_CLASSIFICATION
from tests.conftest import execute, labelled_rows
from tests.models import TASK


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


def test_a_long_row_is_said_to_be_cut_where_it_is_only_learned_from():
    found = Lengths(over={"train": 2, "dev": 0, "eval": 1, "unlabelled": 3})
    long = "longer than max_length (32 tokens)"
    assert found.warnings(replace(TASK, windows=True)) == [
        f"train: 2 rows {long}, truncated",
        f"eval: 1 row {long}, read in windows",
        f"unlabelled: 3 rows {long}, truncated",
    ]
    words = found.warnings(TOKEN_CLASSIFICATION.bind(("O", "B-A"), 32, ("text",)))
    assert words[0] == f"train: 2 rows {long}, read in windows", "as plain training does"
