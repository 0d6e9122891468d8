"""Tasks whose model reads a row as one sequence of tokens: a text, or a pair of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rarefy.pipeline.model.tokens import windows
from rarefy.pipeline.tasks.shared import tokenize
from rarefy.pipeline.tasks.task import Row, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rarefy.pipeline.data.split import Split


TAUGHT = ("train", "unlabelled")
"""The splits that are only learned from, whose rows are cut."""


@dataclass(frozen=True)
class SequenceTask(Task):
    """A task with one sequence of tokens for each row, which is cut to ``max_length``.

    With ``windows``, a longer text is answered by the mean of the raw outputs of its windows.
    Training and teachers read its first ``max_length`` tokens.
    """

    no_windows: ClassVar[str | None] = None

    def encode(
        self, tokenizer: Any, split: Split, rows: Sequence[int] | None = None
    ) -> list[dict[str, list[int]]]:
        """Tokenize rows (default: all), truncated to ``max_length``, unpadded: one dict per row."""
        texts, pairs = _texts(split, range(len(split)) if rows is None else rows)
        return tokenize.rows(tokenizer, texts, pairs, self.max_length)

    def asked(self, tokenizer: Any, split: Split) -> list[Row]:
        """Return the tokenized texts of a split; with windows, ``row`` is the window's text."""
        if not self.windows:
            return super().asked(tokenizer, split)
        found = windows.of(tokenizer.backend_tokenizer, split.texts, self.max_length)
        return [
            windows.inputs(part, tokenizer.model_input_names) | {"row": row}
            for row, parts in enumerate(found)
            for part in parts
        ]

    def merged(self, outputs: NDArray[np.float64], rows: Sequence[Row]) -> NDArray[np.float64]:
        """Return the mean of the outputs of each text's windows."""
        return windows.mean(outputs, [row["row"] for row in rows]) if self.windows else outputs

    def lengths(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[int]:
        """Return the number of tokens in each row before ``encode`` truncates it."""
        return tokenize.counts(tokenizer, *_texts(split, rows))


def _texts(split: Split, rows: Sequence[int]) -> tuple[list[str], list[str] | None]:
    pairs = [split.pairs[row] for row in rows] if split.pairs is not None else None
    return [split.texts[row] for row in rows], pairs
