"""Rows as sequences of tokens: a text or a pair, cut to the limit."""

from __future__ import annotations

import pytest

from pipeline.model import checkpoint
from pipeline.stage.split import Split
from pipeline.stage.tasks.text_classification import TextClassification
from tests.models import LABELS, write_encoder

TASK = TextClassification(LABELS, 6, ("text",))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("task") / "encoder", layers=1, hidden=16)


def test_rows_are_cut_to_the_limit_and_their_whole_length_is_known(encoder):
    tokenizer = checkpoint.load_tokenizer(encoder)
    split = Split(
        "eval", "f", "0" * 64, ["the film", "a very fine story with a scene"], None, [0, 1]
    )
    short, long = TASK.encode(tokenizer, split)
    assert (len(short["input_ids"]), len(long["input_ids"])) == (4, 6)
    assert TASK.lengths(tokenizer, split, [0, 1]) == [4, 9]
    assert TASK.encode(tokenizer, split, [1]) == [long]
    assert TASK.encode(tokenizer, split, []) == []


def test_a_pair_is_two_segments(encoder):
    tokenizer = checkpoint.load_tokenizer(encoder)
    (row,) = TASK.encode(tokenizer, Split("eval", "f", "0" * 64, ["film"], ["story"], [0]))
    assert tokenizer.decode(row["input_ids"]) == "[CLS] film [SEP] story [SEP]"
