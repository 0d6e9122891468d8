"""What every task reads of a data file in the same way."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.stage.table_file import Source
from pipeline.stage.tasks.text_classification import TEXT_CLASSIFICATION
from pipeline.terms.errors import DataError
from pipeline.terms.vocabulary import Data

SOURCE = Source("train", "train.jsonl", Path("train.jsonl"), "0" * 64)


def test_data_without_labels_has_no_target_columns():
    files = {"train": "t.jsonl", "eval": "e.jsonl"}
    assert TEXT_CLASSIFICATION.reader.target_columns(Data(**files)) == ("label",)
    assert TEXT_CLASSIFICATION.reader.target_columns(Data(**files, label=None)) == ()
    with pytest.raises(DataError, match=r"^data.label: text-classification takes one column"):
        TEXT_CLASSIFICATION.reader.target_columns(Data(**files, label=("a", "b")))


@pytest.mark.parametrize(
    ("texts", "values", "found"),
    [
        (("film",), ("good",), (("film",), "good")),
        (("film",), (), (("film",), None)),
        (("film", " "), ("good",), "without text"),
        ((3,), ("good",), "whose text is of type int"),
        (("film", ["a"]), ("good",), "whose text is of type list"),
        (("film",), (None,), "without a label"),
    ],
)
def test_a_row_has_its_texts_and_target_or_is_left_out_for_a_reason(texts, values, found):
    assert TEXT_CLASSIFICATION.reader.read_row(texts, values, SOURCE, 1) == found
