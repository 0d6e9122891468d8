"""Texts as tokens, cut or counted."""

from __future__ import annotations

import pytest

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.tasks.shared import tokenize
from tests.models import write_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return checkpoint.load_tokenizer(folder)


def test_rows_are_cut_and_counts_are_not(tokenizer):
    texts, pairs = ["the film", "a very fine story"], ["a story", "the scene"]
    found = tokenize.rows(tokenizer, texts, None, 5)
    assert [tokenizer.decode(row["input_ids"]) for row in found] == [
        "[CLS] the film [SEP]",
        "[CLS] a very fine [SEP]",
    ]
    assert tokenize.counts(tokenizer, texts) == [4, 6]
    (row, _) = tokenize.rows(tokenizer, texts, pairs, 12)
    assert tokenizer.decode(row["input_ids"]) == "[CLS] the film [SEP] a story [SEP]"
    assert tokenize.counts(tokenizer, texts, pairs) == [7, 9]


def test_no_texts_are_no_rows(tokenizer):
    assert tokenize.rows(tokenizer, [], None, 5) == tokenize.counts(tokenizer, []) == []
