"""Encodings of texts: windows over those that are longer than a model reads, and model inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from pipeline.model import portions
from pipeline.terms.errors import DataError

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
    for part in portions.of(texts):
        cut(tokenizer, max_length, shared)
        found = list(read(tokenizer, [texts[row] for row in part]))
        tokenizer.no_truncation()
        yield from found


def cut(tokenizer: Any, max_length: int, shared: int | None = None) -> None:
    """Set a tokenizer to cut long texts into windows as ``of`` does."""
    tokenizer.no_padding()
    stride = overlap(tokenizer, max_length) if shared is None else shared
    tokenizer.enable_truncation(max_length, stride=stride)


def read(tokenizer: Any, texts: Sequence[str]) -> Iterator[list[Any]]:
    """Return the encodings of each text's windows, by a tokenizer that ``cut`` has set.

    It is not changed, so threads can share it.
    """
    for part in portions.of(texts):
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

    width = max(len(part.ids) for part in parts)
    arrays = {}
    for name in names:
        rows = [getattr(part, LISTS[name]) for part in parts]
        fill = padding if name == "input_ids" else 0
        arrays[name] = np.array([row + [fill] * (width - len(row)) for row in rows], np.int64)
    return arrays


def check(texts: Sequence[str], feeds: Iterable[dict[str, NDArray[np.int64]]]) -> None:
    """Raise DataError if a text has no tokens; only a tokenizer without special ones allows it."""
    for text, feed in zip(texts, feeds, strict=True):
        if next(iter(feed.values())).shape[1] == 0:
            raise DataError(f"the text {text!r:.60} has no tokens, so it cannot be answered")


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
