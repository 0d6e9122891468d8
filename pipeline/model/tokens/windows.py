"""Encodings of texts that are longer than a model reads: windows over them, or their beginnings.

Of a text that is cut off, no more is tokenized than the model reads, where that gives the same
tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from rarefy.pipeline.model import batches
from rarefy.pipeline.terms.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROWS: Final = 32
"""Windows of full length that run at once: a text may have any number."""
LISTS: Final = {
    "input_ids": "ids",
    "attention_mask": "attention_mask",
    "token_type_ids": "type_ids",
}
"""A model's inputs, and what an encoding of the tokenizers library calls them."""
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


def overlap(tokenizer: Any, max_length: int) -> int:
    """Return how many tokens neighbouring windows share: half of a text's tokens in a window."""
    room: int = max_length - tokenizer.num_special_tokens_to_add(False)
    return room // 2


def of(
    tokenizer: Any, texts: Sequence[str], max_length: int, shared: int | None = None
) -> Iterator[list[Any]]:
    """Yield the encodings of each text's windows, each of at most ``max_length`` tokens.

    ``tokenizer``: of the tokenizers library. It is left without truncation.
    ``shared``: the number of tokens that neighbours share; by default ``overlap``.
    """
    for part in batches.portions(texts):
        cut(tokenizer, max_length, shared)
        encodings = list(read(tokenizer, [texts[row] for row in part]))
        tokenizer.no_truncation()
        yield from encodings


def cut(tokenizer: Any, max_length: int, shared: int | None = None) -> None:
    """Set a tokenizer to cut long texts into windows as ``of`` does."""
    tokenizer.no_padding()
    stride = shared
    if shared is None:
        stride = overlap(tokenizer, max_length)
    tokenizer.enable_truncation(max_length, stride=stride)


def read(tokenizer: Any, texts: Sequence[str]) -> Iterator[list[Any]]:
    """Return the encodings of each text's windows, by a tokenizer that ``cut`` has set.

    It is not changed, so threads can share it.
    """
    for part in batches.portions(texts):
        for encoding in tokenizer.encode_batch([texts[row] for row in part]):
            yield [encoding, *encoding.overflowing]


def inputs(part: Any, names: Iterable[str]) -> dict[str, list[int]]:
    """Return an encoding's lists under the names of a model's inputs."""
    return {name: getattr(part, LISTS[name]) for name in names if name in LISTS}


def length(tokenizer: Any, parts: Sequence[Any], max_length: int) -> int:
    """Return the number of tokens of a text, special ones included, from the encodings of ``of``.

    Those that its windows share, or each have for themselves, count once.
    """
    again: int = tokenizer.num_special_tokens_to_add(False) + overlap(tokenizer, max_length)
    return sum(len(part.ids) for part in parts) - again * (len(parts) - 1)


def feed(
    parts: Sequence[Any], names: Sequence[str], padding: int = 0
) -> dict[str, NDArray[np.int64]]:
    """Return a text's windows as a graph's inputs: windows × tokens, padded on the right.

    ``padding``: the token that windows are filled up with.
    """
    import numpy as np

    arrays = {}
    for name in names:
        rows = [getattr(part, LISTS[name]) for part in parts]
        width = max(map(len, rows))
        fill = 0
        if name == "input_ids":
            fill = padding
        arrays[name] = np.array([row + [fill] * (width - len(row)) for row in rows], np.int64)
    return arrays


def check(texts: Sequence[str], feeds: Iterable[dict[str, NDArray[np.int64]]]) -> None:
    """Raise DataError if a text has no tokens; only a tokenizer without special ones allows it."""
    for text, feed in zip(texts, feeds, strict=True):
        if next(iter(feed.values())).shape[1] == 0:
            raise DataError(f"the text {text!r:.60} has no tokens, so there is no prediction")


def at_once(
    feed: dict[str, NDArray[np.int64]], max_length: int
) -> Iterator[dict[str, NDArray[np.int64]]]:
    """Yield the feed in parts that bound memory: as many tokens as ``ROWS`` of full length."""
    rows, width = next(iter(feed.values())).shape
    step = ROWS * max_length // width
    for start in range(0, rows, step):
        yield {name: values[start : start + step] for name, values in feed.items()}


def mean(outputs: NDArray[Any], owners: Sequence[int]) -> NDArray[np.float64]:
    """Return the mean of the outputs (windows × width) of each text.

    ``owners``: the text of each window; all windows of a text stand together, in order.
    """
    import numpy as np

    _, firsts, counts = np.unique(owners, return_index=True, return_counts=True)
    sums: NDArray[np.float64] = np.add.reduceat(outputs.astype(np.float64), firsts, axis=0)
    return sums / counts[:, None]


def by_words(tokenizer: Any) -> bool:
    """Say whether the tokens before a space never depend on what follows it.

    ``tokenizer``: of the tokenizers library. One that is not known to be so is said not to be.
    """
    splits = _parts(tokenizer.pre_tokenizer, "pretokenizers")
    if not any(split["type"] in WORDS for split in splits):
        return False
    if not all(split["type"] in SPLITS and _cuts(split) for split in splits):
        return False
    normalizers = _parts(tokenizer.normalizer, "normalizers")
    if not all(map(_local, normalizers)):
        return False
    added = tokenizer.get_added_tokens_decoder().values()
    return not any(" " in token.content.lstrip() for token in added)


def encode_beginnings(tokenizer: Any, texts: Sequence[str], max_length: int) -> list[Any]:
    """Return the encodings of texts, as ``encode_batch`` does, of a tokenizer ``by_words``.

    The tokenizer truncates to ``max_length``. Only the places in the text differ, which are not
    found, and the parts that are cut off, ``overflowing``: a text is read up to a space by which it
    has more than ``max_length`` tokens.
    """
    beginnings = [_beginning(text, CHARACTERS * max_length) for text in texts]
    encodings: list[Any] = tokenizer.encode_batch_fast(beginnings)
    too_short = []
    for at, text in enumerate(texts):
        if len(beginnings[at]) < len(text) and not encodings[at].overflowing:
            too_short.append(at)
    if too_short:
        whole = tokenizer.encode_batch_fast([texts[at] for at in too_short])
        for at, encoding in zip(too_short, whole, strict=True):
            encodings[at] = encoding
    return encodings


def _beginning(text: str, characters: int) -> str:
    """Return a text up to its first space after that many characters."""
    if len(text) <= characters:
        return text
    space = BREAK.search(text, characters)
    if space is None:
        return text
    return text[: space.start()]


def _parts(part: Any, key: str) -> list[dict[str, Any]]:
    """Return how tokenizer.json describes a part of a tokenizer, of a sequence each entry."""
    if part is None:
        return []
    entries = [json.loads(part.__getstate__())]
    while any(entry["type"] == "Sequence" for entry in entries):
        entries = [part_entry for entry in entries for part_entry in entry.get(key, [entry])]
    return entries


def _cuts(split: Mapping[str, Any]) -> bool:
    """Say whether a pre-tokenizer is not set to leave words together."""
    return all(split.get(key, True) is not False for key in ("use_regex", "split"))


def _local(normalizer: Mapping[str, Any]) -> bool:
    if normalizer["type"] == "Replace":
        pattern = normalizer["pattern"]
        return pattern == {"Regex": " {2,}"} or " " not in pattern.get("String", " ")
    return normalizer["type"] in LOCAL
