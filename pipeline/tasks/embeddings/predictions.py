"""What a user reads of an embedding."""

from __future__ import annotations

import math
from abc import ABC
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from rarefy.pipeline.tasks.task import Presenter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHOWN = 5
"""The numbers that are printed."""


class Embedding(NamedTuple):
    """The embedding of a text."""

    vector: list[float]

    def columns(self) -> list[str]:
        """Return the first numbers and the Euclidean norm."""
        numbers = [f"{number:.4f}" for number in self.vector[:SHOWN]]
        if len(self.vector) > SHOWN:
            numbers.append("…")
        norm = math.hypot(*self.vector)
        return [" ".join(numbers), f"norm {norm:.4f}"]


class EmbeddingPresenter(Presenter, ABC):
    """Shows the embeddings of texts."""

    answers_like: ClassVar[str] = "sentence-embeddings"

    def answers(self, predictions: NDArray[np.float64]) -> list[Embedding]:
        """Return each text's embedding."""
        return [Embedding(row.tolist()) for row in predictions]
