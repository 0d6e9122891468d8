"""Embeddings of texts alone: the truth is which texts are nearest by the recipe's own model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rarefy.pipeline.tasks.embeddings import search
from rarefy.pipeline.tasks.shared.ranking import TOP
from rarefy.pipeline.tasks.task import NOT_A_NUMBER, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rarefy.pipeline.data.split import Split

SHOWN = 3
"""The neighbours that are shown in words."""


class Neighbours(Task):
    """What texts alone change in a task of embeddings.

    Answers are texts × 10: the places of the nearest other texts in the split. The truth are those
    that the recipe's model finds.
    """

    fewest: ClassVar[int] = 2
    trivial: ClassVar[str] = "neighbours drawn at random"

    @classmethod
    def block(cls, truth: Sequence[Any]) -> str:
        """Return ``text``."""
        return "text"

    @classmethod
    def floor(cls, truth: Sequence[Any]) -> float | None:
        """Return the chance that half of the neighbours, drawn at random, are the right ones."""
        from scipy.stats import hypergeom

        others = len(truth) - 1
        drawn = min(TOP, others)
        fewer = -(-drawn // 2) - 1  # than half
        return float(hypergeom.sf(fewer, others, drawn, drawn))

    def kept(self, answers: NDArray[np.float64], split: Split) -> NDArray[np.float64]:
        """Return the nearest other texts of each text; see ``search.neighbours``."""
        import numpy as np

        place = {text: at for at, text in enumerate(self.requests(split)[0])}
        return search.neighbours(answers, np.array([place[text] for text in split.texts]))

    def targets_of(self, answers: NDArray[np.float64], split: Split) -> list[list[int]]:
        """Return the places of each text's neighbours."""
        return [[int(place) for place in row if place >= 0] for row in answers]

    @classmethod
    def right(cls, answers: NDArray[np.float64], truth: Sequence[Any]) -> NDArray[np.bool_]:
        """Return whether at least half of a text's neighbours are found; NaN finds none."""
        import numpy as np

        wanted = np.full((len(truth), TOP), float(search.NONE))
        for row, places in zip(wanted, truth, strict=True):
            row[: len(places)] = places
        return np.asarray(search.overlap(wanted, answers) >= search.SAME_AT_LEAST)

    def said(self, answers: NDArray[np.float64], split: Split) -> list[str]:
        """Return the nearest texts of each text, at most three."""
        import numpy as np

        finite = np.asarray(np.isfinite(answers).all(axis=1))
        found = self.targets_of(answers, split)
        return [
            _words(places, split) if whole else NOT_A_NUMBER
            for places, whole in zip(found, finite, strict=True)
        ]

    def wanted(self, split: Split) -> list[str]:
        """Return the texts that should be nearest, at most three."""
        return [_words(places, split) for places in split.labels or ()]


def _words(places: Sequence[int], split: Split) -> str:
    return " | ".join(split.texts[place] for place in places[:SHOWN])
