"""Embeddings of texts alone: the truth is which texts are nearest by the recipe's own model.

Retained predictions are (texts, 10): the places of the nearest other texts in the split, the
nearest first. The truth are the places that the recipe's model finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rarefy.pipeline.tasks.embeddings import search
from rarefy.pipeline.tasks.embeddings.predictions import EmbeddingPresenter
from rarefy.pipeline.tasks.shared.ranking import TOP
from rarefy.pipeline.tasks.task import NOT_A_NUMBER, Scorer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rarefy.pipeline.data.split import Split

SHOWN = 3
"""The neighbours that are shown in words."""


class NeighbourScorer(Scorer):
    """Says which texts have about the neighbours that they should have."""

    trivial = "neighbours drawn at random"

    def floor(self, truth: Sequence[Any]) -> float | None:
        """Return the chance that half of the neighbours, drawn at random, are correct."""
        from scipy.stats import hypergeom

        others = len(truth) - 1
        drawn = min(TOP, others)
        half = -(-drawn // 2)
        return float(hypergeom.sf(half - 1, others, drawn, drawn))

    def block_name(self, truth: Sequence[Any]) -> str:
        """Return ``text``."""
        return "text"

    def retained(self, predictions: NDArray[np.float64], split: Split) -> NDArray[np.float64]:
        """Return the nearest other texts of each text; see ``search.neighbours``."""
        import numpy as np

        texts, _ = self.task.encoder.requests(split)
        place = {text: at for at, text in enumerate(texts)}
        return search.neighbours(predictions, np.array([place[text] for text in split.texts]))

    def correct(self, predictions: NDArray[np.float64], truth: Sequence[Any]) -> NDArray[np.bool_]:
        """Return whether at least half of a text's neighbours are found; NaN finds none."""
        import numpy as np

        neighbours = np.full((len(truth), TOP), float(search.NONE))
        for row, places in zip(neighbours, truth, strict=True):
            row[: len(places)] = places
        return np.asarray(search.overlap(neighbours, predictions) >= search.SAME_AT_LEAST)

    def agreement(
        self, ours: NDArray[np.float64], theirs: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Return whether at least half of a text's neighbours are the same."""
        import numpy as np

        return np.asarray(search.overlap(ours, theirs) >= search.SAME_AT_LEAST)


class NeighbourPresenter(EmbeddingPresenter):
    """Shows the nearest texts of each text, at most three."""

    def describe_prediction(self, predictions: NDArray[np.float64], split: Split) -> list[str]:
        """Return the nearest texts of each text."""
        import numpy as np

        finite = np.asarray(np.isfinite(predictions).all(axis=1))
        descriptions = []
        for places, is_finite in zip(places_of(predictions), finite, strict=True):
            descriptions.append(_in_words(places, split) if is_finite else NOT_A_NUMBER)
        return descriptions

    def describe_target(self, split: Split) -> list[str]:
        """Return the texts that should be nearest."""
        return [_in_words(places, split) for places in split.labels or ()]


def places_of(predictions: NDArray[np.float64]) -> list[list[int]]:
    """Return the places of each text's neighbours."""
    return [[int(place) for place in row if place >= 0] for row in predictions]


def _in_words(places: Sequence[int], split: Split) -> str:
    return " | ".join(split.texts[place] for place in places[:SHOWN])
