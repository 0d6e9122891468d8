"""The rows that are measured: which of them are timed, and how long they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rarefy.pipeline.model.tokens import windows

if TYPE_CHECKING:
    from rarefy.pipeline.data.split import Split
    from rarefy.pipeline.model.runtime.bundle_model import BundleModel
    from rarefy.pipeline.tasks import Task


def rows_to_time(
    task: Task, split: Split, most: int, seed: int
) -> tuple[list[str], list[str] | None]:
    """Draw requests from a split, as a service gets them: of a search, only its queries.

    Args:
        task: Says what the requests of a split are.
        split: The rows to draw from.
        most: How many requests are drawn; all of them in a random order if there are fewer.
        seed: Of the draw.

    Returns:
        The requests' texts, and their second texts if they are pairs.
    """
    import numpy as np

    # Processes that measure import this module, and tasks would double the time that takes.
    from rarefy.pipeline.tasks.task import timed_requests

    texts, pairs = timed_requests(task, split)
    count = min(most, len(texts))
    rows = np.random.default_rng(seed).choice(len(texts), count, replace=False)
    return select_rows(texts, pairs, rows)


def select_rows(
    texts: Sequence[str], pairs: Sequence[str] | None, rows: Iterable[int]
) -> tuple[list[str], list[str] | None]:
    """Return the texts of some rows, and their second texts if rows are pairs."""
    numbers = list(rows)
    selected = [texts[row] for row in numbers]
    if pairs is None:
        return selected, None
    return selected, [pairs[row] for row in numbers]


def character_lengths(texts: Sequence[str], pairs: Sequence[str] | None) -> list[int]:
    """Return each row's number of characters, that of both its texts if rows are pairs."""
    lengths = [len(text) for text in texts]
    if pairs is None:
        return lengths
    return [first + len(second) for first, second in zip(lengths, pairs, strict=True)]


def token_lengths(
    model: BundleModel, texts: Sequence[str], pairs: Sequence[str] | None
) -> list[int]:
    """Return each row's number of tokens as the model reads it: cut, or whole in windows."""
    if not model.of_words and not model.in_windows:
        feeds = model.encode(texts, pairs)
        return [next(iter(feed.values())).shape[1] for feed in feeds]
    longest = model.signature["max_length"]
    texts_in_windows = windows.read(model.tokenizer, texts)
    return [windows.length(model.tokenizer, text, longest) for text in texts_in_windows]
