"""Tasks whose model reads a row as one sequence of tokens: a text, or a pair of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.stage.tasks.task import Task

if TYPE_CHECKING:
    from pipeline.stage.split import Split


@dataclass(frozen=True)
class SequenceTask(Task):
    """A task with one sequence of tokens for each row, which is cut to ``max_length``."""

    def encode(
        self, tokenizer: Any, split: Split, rows: Sequence[int] | None = None
    ) -> list[dict[str, list[int]]]:
        """Tokenize rows (default: all), truncated to ``max_length``, unpadded: one dict per row."""
        chosen = range(len(split)) if rows is None else rows
        if not len(chosen):
            return []
        texts, pairs = _texts(split, chosen)
        encoded = tokenizer(texts, pairs, truncation=True, max_length=self.max_length)
        return [
            {key: encoded[key][row] for key in encoded} for row in range(len(encoded["input_ids"]))
        ]

    def lengths(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[int]:
        """Return the number of tokens in each row before ``encode`` truncates it."""
        texts, pairs = _texts(split, rows)
        encoded = tokenizer(texts, pairs, truncation=False, verbose=False)
        return [len(ids) for ids in encoded["input_ids"]]


def _texts(split: Split, rows: Sequence[int]) -> tuple[list[str], list[str] | None]:
    pairs = [split.pairs[row] for row in rows] if split.pairs is not None else None
    return [split.texts[row] for row in rows], pairs
