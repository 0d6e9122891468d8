"""Windows over long texts: every token is read, neighbours share half, and outputs are averaged."""

from __future__ import annotations

import numpy as np
import pytest

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.tokens import windows
from tests.models import FILL, write_tokenizer

WORDS = [FILL[at % len(FILL)] for at in range(40)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return checkpoint.load_tokenizer(folder).backend_tokenizer


@pytest.mark.parametrize("length", [1, 10, 11, 12, 23, 40])
def test_every_token_is_in_a_window_of_at_most_the_length(tokenizer, length):
    (parts,) = windows.of(tokenizer, [" ".join(WORDS[:length])], 12)
    assert all(len(part.ids) <= 12 for part in parts)
    inner = [part.tokens[1:-1] for part in parts]
    assert [part.tokens[0] for part in parts] == ["[CLS]"] * len(parts)
    read = inner[0] + [token for part in inner[1:] for token in part[5:]]
    assert read == WORDS[:length], "neighbours share five of ten tokens"
    assert (len(parts) > 1) == (length > 10)


def test_a_feed_is_padded_on_the_right_with_the_padding_id(tokenizer):
    (parts,) = windows.of(tokenizer, [" ".join(WORDS[:17])], 12)
    fed = windows.feed(parts, ["input_ids", "attention_mask", "token_type_ids"], 7)
    assert fed["input_ids"].shape == (3, 12)
    assert fed["attention_mask"].sum(axis=1).tolist() == [12, 12, 9]
    assert fed["input_ids"][2, 9:].tolist() == [7, 7, 7]
    assert fed["token_type_ids"].sum() == 0


def test_windows_run_in_parts_of_as_many_tokens_as_32_full_ones():
    full = {"input_ids": np.arange(70 * 12).reshape(70, 12), "mask": np.ones((70, 12), int)}
    parts = [*windows.at_once(full, 12)]
    assert [part["mask"].shape for part in parts] == [(32, 12), (32, 12), (6, 12)]
    assert np.concatenate([part["input_ids"] for part in parts]).tolist() == (
        full["input_ids"].tolist()
    )
    short = {"input_ids": np.ones((64, 6), int)}
    assert [len(part["input_ids"]) for part in windows.at_once(short, 12)] == [64]


def test_the_mean_is_taken_over_the_windows_of_each_text():
    outputs = np.array([[1.0, 0.0], [3.0, 2.0], [5.0, 5.0]])
    assert windows.mean(outputs, [0, 0, 1]).tolist() == [[2.0, 1.0], [5.0, 5.0]]


@pytest.mark.parametrize("max_length", [6, 7])
def test_the_length_of_a_text_follows_from_its_windows(tokenizer, max_length):
    texts = [" ".join(WORDS[:count]) for count in range(1, 20)]
    for count, parts in enumerate(windows.of(tokenizer, texts, max_length), 3):  # [CLS], [SEP]
        assert windows.length(tokenizer, parts, max_length) == count
