"""How a task turns rows into tokens: to train on, to predict, in windows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from rarefy.pipeline.tasks.part import Part

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rarefy.pipeline.data.split import Split

Row = dict[str, Any]
"""A tokenized row, unpadded: lists of ids by the model's input names, and ``labels``."""
FIRST: Final = "first"
"""The key of a row under which the places of its words' tokens are."""
Requests = tuple[Sequence[str], Sequence[str] | None]
"""Texts, and their pairs if there are any."""


class Encoder(Part):
    """Tokenizes rows. A **unit** is what gets one prediction.

    A unit is a row here; a word, or a text, elsewhere. ``tokenizer`` is one of transformers.
    """

    unit_per_row: ClassVar[bool] = True
    """Whether each row is one unit; if not, ``count_units`` says how many."""
    of_words: ClassVar[bool] = False
    """Whether a unit is a word of a text, which is words joined by single spaces."""
    no_windows: ClassVar[str | None] = "its texts are cut"
    """Why the recipe cannot ask for windows; None if it can."""

    @abstractmethod
    def encode(
        self, tokenizer: Any, split: Split, rows: Sequence[int] | None = None
    ) -> list[dict[str, list[int]]]:
        """Tokenize rows (default: all), truncated to ``max_length``, unpadded: one dict per row."""

    @abstractmethod
    def lengths(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[int]:
        """Return the number of tokens in each row before ``encode`` truncates it."""

    @abstractmethod
    def examples(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[Row]:
        """Return rows to train on: tokenized, and with their targets as ``labels``."""

    def training_rows(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[Row]:
        """Return the rows of training without a teacher; default: the ``examples``."""
        return self.examples(tokenizer, split, rows)

    def count_units(self, row: Row) -> int:
        """Return the number of units of a tokenized row."""
        return 1

    def requests(self, split: Split) -> Requests:
        """Return the texts, and their pairs if there are any, that a model predicts for a split."""
        return split.texts, split.pairs

    def encode_requests(self, tokenizer: Any, split: Split) -> list[Row]:
        """Return the tokenized ``requests`` of a split; a long text may be several windows."""
        return list(self.encode(tokenizer, split))

    def merge_windows(
        self, outputs: NDArray[np.float64], rows: Sequence[Row]
    ) -> NDArray[np.float64]:
        """Return the raw outputs of a split's units.

        Args:
            outputs: those of the units of ``rows``, (units of rows, width).
            rows: as ``encode_requests`` returns them.

        Returns:
            (units, width).
        """
        return outputs
