"""Texts that are longer than a model reads, as windows whose outputs are averaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def of(tokenizer: Any, texts: Sequence[str], max_length: int) -> Iterator[list[Any]]:
    """Yield the encodings of each text's windows; neighbours share half of their tokens.

    ``tokenizer``: of the tokenizers library. It is left without truncation.
    """
    room = max_length - tokenizer.num_special_tokens_to_add(False)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length, stride=room // 2)
    encodings = tokenizer.encode_batch(list(texts))
    tokenizer.no_truncation()
    for encoding in encodings:
        yield [encoding, *encoding.overflowing]


def lengths(tokens: int, max_length: int, special: int) -> list[int]:
    """Return the number of tokens in each window of a text with so many, with ``special`` ones."""
    room = max_length - special
    step, beyond = room - room // 2, max(tokens - max_length, 0)
    further = -(-beyond // step)
    return [max_length] * further + [tokens - further * step]


def feed(parts: Sequence[Any], names: Sequence[str], padding: int) -> dict[str, NDArray[np.int64]]:
    """Return a text's windows as a graph's inputs: windows × tokens, padded on the right."""
    import numpy as np

    width = max(len(part.ids) for part in parts)
    fill = {"input_ids": padding}
    arrays = {}
    for name in names:
        key = {"input_ids": "ids", "token_type_ids": "type_ids"}.get(name, name)
        rows = [getattr(part, key) for part in parts]
        padded = [row + [fill.get(name, 0)] * (width - len(row)) for row in rows]
        arrays[name] = np.array(padded, np.int64)
    return arrays


def mean(outputs: NDArray[Any], owners: Sequence[int]) -> NDArray[np.float64]:
    """Return the mean of the outputs (windows × width) of each text.

    ``owners``: the text of each window; all windows of a text stand together, in order.
    """
    import numpy as np

    _, firsts, counts = np.unique(owners, return_index=True, return_counts=True)
    sums: NDArray[np.float64] = np.add.reduceat(outputs.astype(np.float64), firsts, axis=0)
    return sums / counts[:, None]
