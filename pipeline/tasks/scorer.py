"""How a task's predictions are scored against the truth, and compared between two models."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rarefy.pipeline.tasks.part import Part
from rarefy.pipeline.terms.own_metric import OwnMetric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rarefy.pipeline.data.split import Split
    from rarefy.pipeline.tasks.shared.formulas import Formula
    from rarefy.pipeline.terms.recipe_parts import Data

RareRows = tuple["NDArray[np.int64]", "NDArray[np.float64]"]
"""Rows, and another prediction for each of them: (rows,) and (rows, columns)."""


class Scorer(Part):
    """Scores predictions, which are (units, columns).

    The **truth** is a split's targets, in a form that JSON can hold. A **block** is what is correct
    or not, and what a bootstrap draws: a row here, a query or a sentence elsewhere.
    """

    scores: ClassVar[Mapping[str, Formula]]
    """The metrics that score predictions, the main one first; see ``formulas``."""
    on_request: ClassVar[Collection[str]] = ()
    """Further metrics, which are computed only for budgets; see ``formula``."""
    own: OwnMetric | None = None
    """A metric of one's own that can be scored too, under its name."""
    counted: bool = False
    """Whether the scores count correct rows, so that accuracy's exact intervals bound them."""
    probable: bool = False
    """Whether predictions are probabilities, so that two models' have a ``divergence``."""
    trivial: str = ""
    """The prediction that ``floor`` scores, in words."""

    def __eq__(self, other: object) -> bool:
        """Return whether the other scorer scores the same."""
        return super().__eq__(other) and self.own == getattr(other, "own", None)

    __hash__ = Part.__hash__

    # The metrics

    def formulas(self, truth: Sequence[Any]) -> Mapping[str, Formula]:
        """Return the metrics for predictions of this truth, the main one first."""
        return self.scores

    def score_names(self, data: Data) -> Collection[str]:
        """Return the names that ``formulas`` has for such data; empty if only its truth tells."""
        return getattr(self, "scores", ())

    def formula(self, name: str, truth: Sequence[Any]) -> Formula | None:
        """Return a metric of ``formulas``, one on request, or the user's own; None for others."""
        if self.own and self.own.name == name:
            from rarefy.pipeline.tasks.shared import own_formula

            return own_formula.of(self.own)
        return self.formulas(truth).get(name) or self.requested(name)

    def requested(self, name: str) -> Formula | None:
        """Return a metric that is computed on request, None if there is none of that name."""
        return None

    def floor(self, truth: Sequence[Any]) -> float | None:
        """Return the main score of the best prediction that does not look at the rows.

        A model that is not better has learned nothing, and a share of its score means nothing.
        None if it is unknown.
        """
        return None

    def baseline(self, truth: Sequence[Any]) -> tuple[str, float] | None:
        """Return the name and main score of what needs no model, to compare the models with."""
        return None

    # The truth

    def truth(self, split: Split) -> list[Any]:
        """Return what a split's predictions are scored by."""
        return list(split.labels or [])

    def is_uniform(self, truth: Sequence[Any]) -> bool:
        """Return whether the truth is the same everywhere, so that one can guess it."""
        return all(target == truth[0] for target in truth)

    def blocks(self, split: Split) -> Sequence[int] | None:
        """Return the row that stands for each block; None if each row is a block of its own."""
        return None

    def block_name(self, truth: Sequence[Any]) -> str:
        """Return what a block of such truth is called, such as a query; by default a row."""
        return "row"

    def block_of_unit(self, truth: Sequence[Any]) -> NDArray[np.int64] | None:
        """Return the number of each unit's block, from 0; None if a unit is a block of its own."""
        return None

    def part(self, truth: Sequence[Any], blocks: Sequence[int]) -> list[Any]:
        """Return the truth of some blocks alone; ``blocks``: their places, in order."""
        return [truth[block] for block in blocks]

    # Predictions and the truth

    def retained(self, predictions: NDArray[np.float64], split: Split) -> NDArray[np.float64]:
        """Return what of a split's predictions is stored, compared and scored; default: all.

        All other methods, and those of the presenter that read a split, are given this.
        """
        return predictions

    @abstractmethod
    def correct(self, predictions: NDArray[np.float64], truth: Sequence[Any]) -> NDArray[np.bool_]:
        """Return which blocks are predicted correctly, (blocks,); NaN is wrong.

        It decides what a flip is: a block that only one of two models has correct.
        """

    def missed_labels(
        self, predictions: NDArray[np.float64], truth: Sequence[Any]
    ) -> RareRows | None:
        """Return a correct row of each label, and a prediction for it that misses the label.

        This tells how far one row may move a score in which a rare label weighs as much as any
        other. Default: None, for scores in which all rows weigh about the same.
        """
        return None

    def new_labels(self, predictions: NDArray[np.float64], truth: Sequence[Any]) -> RareRows | None:
        """Return a row of each label that occurs, and a prediction that ranks the label first.

        It is to ``missed_labels`` what a score of 0 is to a perfect one. Default: None.
        """
        return None

    # Two models

    @abstractmethod
    def agreement(
        self, ours: NDArray[np.float64], theirs: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Return which units two models predict alike, (units,)."""

    def divergence(
        self, ours: NDArray[np.float64], theirs: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return each row's Kullback-Leibler divergence in nats, of ``probable`` predictions."""
        raise NotImplementedError
