"""Rows that a model reads as one sequence of tokens: a text, or a pair of texts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rarefy.pipeline.tasks.encoder import Encoder, Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rarefy.pipeline.data.split import Split

TAUGHT = ("train", "unlabelled")
"""The splits that are only learned from, whose rows are cut."""


class SequenceEncoder(Encoder):
    """Makes one sequence of tokens of each row, which is cut to ``max_length``.

    With ``windows``, the outputs of a longer text are the mean of those of its windows. Training
    and teachers read its first ``max_length`` tokens.
    """

    no_windows: ClassVar[str | None] = None

    def encode(
        self, tokenizer: Any, split: Split, rows: Sequence[int] | None = None
    ) -> list[dict[str, list[int]]]:
        """Tokenize rows (default: all), truncated to ``max_length``, unpadded: one dict per row."""
        from rarefy.pipeline.tasks.shared import tokenize

        if rows is None:
            rows = range(len(split))
        texts, pairs = _texts(split, rows)
        return tokenize.rows(tokenizer, texts, pairs, self.task.max_length)

    def lengths(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[int]:
        """Return the number of tokens in each row before ``encode`` truncates it."""
        from rarefy.pipeline.tasks.shared import tokenize

        texts, pairs = _texts(split, rows)
        return tokenize.counts(tokenizer, texts, pairs)

    def examples(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[Row]:
        """Return rows with their ``target`` as ``labels``."""
        encoded = self.encode(tokenizer, split, rows)
        return [
            inputs | {"labels": self.target(split, row)}
            for row, inputs in zip(rows, encoded, strict=True)
        ]

    @abstractmethod
    def target(self, split: Split, row: int) -> Any:
        """Return a row's ``labels`` for the loss, whether or not the split has labels."""

    def encode_requests(self, tokenizer: Any, split: Split) -> list[Row]:
        """Return the tokenized texts of a split; with windows, ``row`` is the window's text."""
        if not self.task.windows:
            return super().encode_requests(tokenizer, split)
        from rarefy.pipeline.model.tokens import windows

        names = tokenizer.model_input_names
        texts = windows.of(tokenizer.backend_tokenizer, split.texts, self.task.max_length)
        rows = []
        for row, parts in enumerate(texts):
            rows += [windows.inputs(part, names) | {"row": row} for part in parts]
        return rows

    def merge_windows(
        self, outputs: NDArray[np.float64], rows: Sequence[Row]
    ) -> NDArray[np.float64]:
        """Return the mean of the outputs of each text's windows: (texts, width)."""
        if not self.task.windows:
            return outputs
        from rarefy.pipeline.model.tokens import windows

        return windows.mean(outputs, [row["row"] for row in rows])


def _texts(split: Split, rows: Sequence[int]) -> tuple[list[str], list[str] | None]:
    texts = [split.texts[row] for row in rows]
    if split.pairs is None:
        return texts, None
    return texts, [split.pairs[row] for row in rows]
