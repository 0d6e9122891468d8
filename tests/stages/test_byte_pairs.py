"""What a smaller byte-pair encoding keeps, so that text made of kept tokens is split as before."""

from __future__ import annotations

import json
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from stages import vocabulary

MERGES = [["b", "c"], ["a", "b"], ["ab", "c"], ["a", "bc"], ["d", "e"], ["abc", "de"]]
VOCABULARY = ["a", "b", "c", "d", "e", "bc", "ab", "abc", "de", "abcde", "<s>"]


def model(**changes):
    return {"vocab": dict.fromkeys(VOCABULARY), "merges": MERGES} | changes


def test_the_tokens_that_merges_pass_through_are_kept():
    """ "abc" is formed as a + bc, because bc has the lower rank; "ab" is not needed."""
    assert vocabulary.closure(model(), ["abc"]) == {"a", "b", "c", "bc", "abc"}
    assert vocabulary.closure(model(), ["abcde"]) == {*"abcde", "bc", "abc", "de", "abcde"}
    assert vocabulary.closure(model(), ["<s>", "d"]) == {"<s>", "d"}


def test_merges_stay_if_parts_and_result_do():
    kept = vocabulary.closure(model(), ["abc"])
    assert vocabulary.retained_merges(model(), kept) == [["b", "c"], ["a", "bc"]]


@pytest.mark.parametrize(
    ("token", "symbols"),
    [
        ("abc", ["a", "##b", "##c</w>"]),
        ("##abc", ["##a", "##b", "##c</w>"]),
        ("c</w>", ["c</w>"]),
    ],
)
def test_symbols_carry_the_marks_of_their_place(token, symbols):
    marks = model(continuing_subword_prefix="##", end_of_word_suffix="</w>")
    if "</w>" not in token:
        symbols = [symbol.removesuffix("</w>") for symbol in symbols]
    assert vocabulary.symbols(marks, token) == symbols


@st.composite
def encodings(draw):
    """Draw a byte-pair encoding: merges in any order, some of which nothing leads to."""
    prefix, suffix = draw(st.sampled_from([("", ""), ("##", ""), ("", "</w>")]))
    tokens = {"".join(parts) for parts in product({"", prefix}, "abc", {"", suffix})}
    ordered, merges = sorted(tokens), []
    for _ in range(draw(st.integers(1, 14))):
        left = draw(st.sampled_from(ordered))
        right = draw(st.sampled_from(ordered))
        if (suffix and left.endswith(suffix)) or (prefix and not right.startswith(prefix)):
            continue
        joined = left + right.removeprefix(prefix)
        if [left, right] not in merges and len(joined) < 12:
            merges.append([left, right])
            ordered = ordered if joined in ordered else [*ordered, joined]
    merges = draw(st.permutations(merges))
    return {
        "type": "BPE",
        "continuing_subword_prefix": prefix or None,
        "end_of_word_suffix": suffix or None,
        "ignore_merges": draw(st.booleans()),
        "vocab": {token: index for index, token in enumerate(ordered)},
        "merges": merges,
    }


@settings(max_examples=200, deadline=None)
@given(encodings(), st.data())
def test_text_of_kept_tokens_is_split_as_before(encoding, data):
    """Checked against the library that does the splitting."""
    whole = Tokenizer(models.BPE())
    state = json.loads(whole.to_str())
    whole = Tokenizer.from_str(json.dumps(state | {"model": encoding}))
    chosen = data.draw(st.sets(st.sampled_from(sorted(encoding["vocab"])), max_size=6))
    letters = {
        token for token in encoding["vocab"] if len(vocabulary.symbols(encoding, token)) == 1
    }
    kept = vocabulary.closure(encoding, chosen | letters)
    smaller = {token: index for index, token in enumerate(sorted(kept))}
    merges = vocabulary.retained_merges(encoding, kept)
    small = Tokenizer.from_str(
        json.dumps(state | {"model": encoding | {"vocab": smaller, "merges": merges}})
    )
    for word in data.draw(st.lists(st.text("abc", max_size=9), min_size=8, max_size=8)):
        tokens = whole.encode(word).tokens
        if set(tokens) <= kept:
            assert small.encode(word).tokens == tokens
