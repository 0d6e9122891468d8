"""Tokenizing no more of a long text than a model reads: the rest would be cut off afterwards."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

CHARACTERS: Final = 6
"""Of a text's beginning, for each token that a model reads: enough for most texts of words."""
BREAK: Final = re.compile(r"(?<=\S) ")
WORDS: Final = {"BertPreTokenizer", "ByteLevel", "Metaspace", "Whitespace", "WhitespaceSplit"}
"""The pre-tokenizers that always end a word at a space."""
SPLITS: Final = {*WORDS, "Digits", "Punctuation"}
LOCAL: Final = {
    "BertNormalizer",
    "Lowercase",
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Nmt",
    "Precompiled",
    "Strip",
    "StripAccents",
}
"""The normalizers that change nothing before a space because of what stands behind it."""


def by_words(tokenizer: Any) -> bool:
    """Say whether the tokens before a space never depend on what follows it.

    ``tokenizer``: of the tokenizers library. One that is not known to be so is said not to be.
    """
    splits = list(_parts(tokenizer.pre_tokenizer, "pretokenizers"))
    added = tokenizer.get_added_tokens_decoder().values()
    return (
        any(split["type"] in WORDS for split in splits)
        and all(split["type"] in SPLITS and _cuts(split) for split in splits)
        and all(map(_local, _parts(tokenizer.normalizer, "normalizers")))
        and not any(" " in token.content.lstrip() for token in added)
    )


def encode(tokenizer: Any, texts: Sequence[str], max_length: int) -> list[Any]:
    """Return the encodings of texts, as ``encode_batch`` does, of a tokenizer ``by_words``.

    The tokenizer truncates to ``max_length``. Only the parts that are cut off, ``overflowing``,
    differ: a text is read up to a space by which it has more than ``max_length`` tokens.
    """
    begun = [_beginning(text, CHARACTERS * max_length) for text in texts]
    found: list[Any] = tokenizer.encode_batch(begun)
    again = [
        at
        for at, (text, part) in enumerate(zip(texts, begun, strict=True))
        if len(part) < len(text) and not found[at].overflowing
    ]
    for at, encoding in zip(
        again, tokenizer.encode_batch([texts[at] for at in again]), strict=True
    ):
        found[at] = encoding
    return found


def _beginning(text: str, characters: int) -> str:
    """Return a text up to its first space after that many characters."""
    space = BREAK.search(text, characters) if len(text) > characters else None
    return text[: space.start()] if space else text


def _parts(part: Any, key: str) -> list[dict[str, Any]]:
    """Return how tokenizer.json describes a part of a tokenizer, of a sequence each entry."""
    if part is None:
        return []
    entries = [json.loads(part.__getstate__())]
    while any(entry["type"] == "Sequence" for entry in entries):
        entries = [each for entry in entries for each in entry.get(key, [entry])]
    return entries


def _cuts(split: Mapping[str, Any]) -> bool:
    """Say whether a pre-tokenizer is not set to leave words together."""
    return split.get("use_regex", True) is not False and split.get("split", True) is not False


def _local(normalizer: Mapping[str, Any]) -> bool:
    if normalizer["type"] == "Replace":
        pattern = normalizer["pattern"]
        return pattern == {"Regex": " {2,}"} or " " not in pattern.get("String", " ")
    return normalizer["type"] in LOCAL
