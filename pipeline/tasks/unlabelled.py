"""A task whose rows have no labels: the predictions of the recipe's model are the truth."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from rarefy.pipeline.tasks.shared import formulas
from rarefy.pipeline.tasks.task import RareRows, Scorer, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rarefy.pipeline.data.split import Split
    from rarefy.pipeline.tasks.shared.formulas import Floats, Formula, Score
    from rarefy.pipeline.terms.recipe_parts import Data

AGREEMENT = "agreement"


def for_data(task: Task, data: Data) -> Task:
    """Return a task as it is for such data: of rows without labels if there are none.

    Raises DataError if the data names columns that the task cannot have.
    """
    if task.reader.lacks_labels(data):
        return without_labels(task)
    return task


def without_labels(task: Task) -> Task:
    """Return a task whose only score is agreement: the share of rows predicted as the model does.

    All its parts but the scorer are the task's own, or those of ``for_texts_alone``.
    """
    own = task.for_texts_alone or task
    has_floor = own.scorer.counted or own is not task
    return replace(own, unlabelled=True, scorer=AgreementScorer(own.scorer, has_floor))


class AgreementScorer(Scorer):
    """Scores how many rows are predicted as the recipe's model predicts them."""

    def __init__(self, scorer: Scorer, has_floor: bool) -> None:
        """Score agreement by what a scorer calls correct.

        Args:
            scorer: the task's own.
            has_floor: whether its floor bounds an agreement.
        """
        self.scorer = scorer
        self.has_floor = has_floor
        self.counted = scorer.counted
        self.probable = scorer.probable
        self.trivial = scorer.trivial

    def __eq__(self, other: object) -> bool:
        """Return whether the other scorer has the same one inside."""
        return isinstance(other, AgreementScorer) and self.scorer == other.scorer

    def __hash__(self) -> int:
        """Return the hash of the scorer inside."""
        return hash((AgreementScorer, self.scorer))

    def bound_to(self, task: Task) -> Self:
        """Return the same scorer of another task, and so the one inside."""
        scorer = super().bound_to(task)
        scorer.scorer = self.scorer.bound_to(task)
        return scorer

    def formulas(self, truth: Sequence[Any]) -> Mapping[str, Formula]:
        """Return agreement alone."""
        return {AGREEMENT: self._share}

    def score_names(self, data: Data) -> Collection[str]:
        """Return the name of agreement."""
        return (AGREEMENT,)

    def _share(self, predictions: Floats, truth: Sequence[Any]) -> Score:
        return formulas.share(self.correct(predictions, truth))

    def floor(self, truth: Sequence[Any]) -> float | None:
        """Return the floor of a task that counts rows, or of texts alone; of others None.

        1 if the model predicts the same for all rows.
        """
        if len(truth) > 0 and self.scorer.is_uniform(truth):
            return 1.0
        if not self.has_floor:
            return None
        return self.scorer.floor(truth)

    # As in the task itself

    def baseline(self, truth: Sequence[Any]) -> tuple[str, float] | None:
        """Return the baseline of the scorer inside."""
        return self.scorer.baseline(truth)

    def truth(self, split: Split) -> list[Any]:
        """Return the truth of the scorer inside."""
        return self.scorer.truth(split)

    def is_uniform(self, truth: Sequence[Any]) -> bool:
        """Return what the scorer inside says."""
        return self.scorer.is_uniform(truth)

    def blocks(self, split: Split) -> Sequence[int] | None:
        """Return the blocks of the scorer inside."""
        return self.scorer.blocks(split)

    def block_name(self, truth: Sequence[Any]) -> str:
        """Return the name that the scorer inside has for a block."""
        return self.scorer.block_name(truth)

    def block_of_unit(self, truth: Sequence[Any]) -> NDArray[np.int64] | None:
        """Return each unit's block by the scorer inside."""
        return self.scorer.block_of_unit(truth)

    def part(self, truth: Sequence[Any], blocks: Sequence[int]) -> list[Any]:
        """Return the part of the truth that the scorer inside does."""
        return self.scorer.part(truth, blocks)

    def retained(self, predictions: NDArray[np.float64], split: Split) -> NDArray[np.float64]:
        """Return what the scorer inside retains."""
        return self.scorer.retained(predictions, split)

    def correct(self, predictions: NDArray[np.float64], truth: Sequence[Any]) -> NDArray[np.bool_]:
        """Return which blocks the scorer inside calls correct."""
        return self.scorer.correct(predictions, truth)

    def missed_labels(
        self, predictions: NDArray[np.float64], truth: Sequence[Any]
    ) -> RareRows | None:
        """Return the missed labels of the scorer inside."""
        return self.scorer.missed_labels(predictions, truth)

    def new_labels(self, predictions: NDArray[np.float64], truth: Sequence[Any]) -> RareRows | None:
        """Return the new labels of the scorer inside."""
        return self.scorer.new_labels(predictions, truth)

    def agreement(
        self, ours: NDArray[np.float64], theirs: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Return which units the scorer inside calls alike."""
        return self.scorer.agreement(ours, theirs)

    def divergence(
        self, ours: NDArray[np.float64], theirs: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the divergence by the scorer inside."""
        return self.scorer.divergence(ours, theirs)
