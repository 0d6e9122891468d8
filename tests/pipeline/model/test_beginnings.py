"""Tests of tokenizing no more of a text than a model reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from rarefy.pipeline.model.tokens import windows

LENGTH = 4
LETTERS = "abeé\u0301ß中ﬁ😀\u200d0'!.,"
BLANKS = " \u00a0\u2009\t\n\x1c"
ALPHABET = sorted({*LETTERS, *"e\u0301▁", *pre_tokenizers.ByteLevel.alphabet()})
TEXTS = st.lists(
    st.one_of(
        st.text(LETTERS, min_size=1, max_size=12),
        st.text(BLANKS, min_size=1, max_size=3),
        st.sampled_from([" ", " ", "<mask>", "abababab", "ababababe", "\x00"]),
    ),
    max_size=12,
).map("".join)


def tokenizer(kind: str) -> Any:
    """Return a small tokenizer of a kind in use, with special tokens and truncation."""
    specials = ["[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {token: at for at, token in enumerate([*specials, *ALPHABET, "ab", "##a", "##b"])}
    merges = [("a", "b")]
    if kind == "wordpiece":
        found = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        found.normalizer = normalizers.BertNormalizer()
        found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    elif kind == "bytes":
        found = Tokenizer(models.BPE(vocabulary, merges))
        found.normalizer = normalizers.NFC()
        found.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel()]
        )
    else:
        pieces = [(token, -float(at)) for token, at in vocabulary.items()]
        found = Tokenizer(models.Unigram(pieces, unk_id=0))
        found.normalizer = normalizers.Sequence(
            [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
        )
        found.pre_tokenizer = pre_tokenizers.Metaspace()
    found.add_special_tokens([AddedToken("<mask>", lstrip=True, rstrip=True)])
    found.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    found.enable_truncation(LENGTH)
    return found


KINDS = {kind: tokenizer(kind) for kind in ("wordpiece", "bytes", "pieces")}


@pytest.mark.parametrize("kind", KINDS)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4), characters=st.integers(0, 6))
def test_a_beginning_gives_the_tokens_of_the_whole_text(
    kind: str, texts: list[str], characters: int
) -> None:
    """Whatever number of characters is tried first: with few, the last word read is among them."""
    reads = KINDS[kind]
    assert windows.by_words(reads)
    with mock.patch.object(windows, "CHARACTERS", characters):
        found = windows.encode_beginnings(reads, texts, LENGTH)
    whole = reads.encode_batch(texts)
    assert [each.ids for each in found] == [each.ids for each in whole]
    assert [each.attention_mask for each in found] == [each.attention_mask for each in whole]
    assert [each.type_ids for each in found] == [each.type_ids for each in whole]


PAGE = Path(__file__).parents[3] / "docs/how-to/serve.md"


def of_the_page() -> Any:
    """Return the function that the page has for servers of one's own."""
    (code,) = re.findall(r"^```python\n(import re\n.*?)^```", PAGE.read_text(), re.DOTALL | re.M)
    said: dict[str, Any] = {}
    exec(code, said)
    return said["encode"]


@pytest.mark.parametrize("kind", KINDS)
@given(text=TEXTS)
def test_the_page_s_code_gives_the_tokens_of_the_whole_text(kind: str, text: str) -> None:
    encode = of_the_page()
    for each in (text, f"{text} {'a b ' * 20}"):
        assert encode(KINDS[kind], each, LENGTH).ids == KINDS[kind].encode(each).ids


def test_the_page_s_code_reads_no_more_than_the_model() -> None:
    counted = mock.Mock(wraps=KINDS["wordpiece"])
    of_the_page()(counted, "a b " * 1_000, LENGTH)
    assert [len(call.args[0]) for call in counted.encode.call_args_list] == [25]


def test_the_rest_of_a_long_text_is_not_read() -> None:
    read = list[str]()

    class Counted:
        def encode_batch_fast(self, texts: list[str]) -> list[Any]:
            read.extend(texts)
            return KINDS["wordpiece"].encode_batch_fast(texts)

    words = "a b " * 1_000
    windows.encode_beginnings(Counted(), [words, "a", "ab" * 1_000], LENGTH)
    assert [len(text) for text in read] == [25, 1, 2_000]


def test_a_beginning_of_few_tokens_is_read_again_to_the_end() -> None:
    text = "a" + " " * 100 + "b a b a b a b a b"
    (found,) = windows.encode_beginnings(KINDS["wordpiece"], [text], LENGTH)
    assert found.ids == KINDS["wordpiece"].encode(text).ids
    assert len(found.ids) == LENGTH


def change(**parts: Any) -> Any:
    """Return a tokenizer of words with other parts."""
    found = tokenizer("wordpiece")
    for name, part in parts.items():
        setattr(found, name, part)
    return found


@pytest.mark.parametrize(
    "reads",
    [
        change(pre_tokenizer=None),
        change(pre_tokenizer=pre_tokenizers.Metaspace(split=False)),
        change(pre_tokenizer=pre_tokenizers.ByteLevel(use_regex=False)),
        change(pre_tokenizer=pre_tokenizers.Split(Regex("a .*"), "isolated")),
        change(pre_tokenizer=pre_tokenizers.Digits()),
        change(normalizer=normalizers.Replace("a b", "c")),
        change(normalizer=normalizers.Replace(Regex("a b"), "c")),
    ],
)
def test_other_tokenizers_read_the_whole_text(reads: Any) -> None:
    assert not windows.by_words(reads)


def test_a_token_with_a_space_inside_needs_the_whole_text() -> None:
    reads = tokenizer("wordpiece")
    reads.add_tokens(["a b"])
    assert not windows.by_words(reads)


def test_tokens_of_spaces_do_not() -> None:
    reads = tokenizer("bytes")
    reads.add_tokens(["   "])
    assert windows.by_words(reads)
