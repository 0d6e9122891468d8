"""Units that have one label each, so that a prediction is a probability of each label."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.stage import formulas
from pipeline.stage.tasks.head import Head, Rounding
from pipeline.stage.tasks.objective import Objective
from pipeline.stage.tasks.presenter import Presenter
from pipeline.stage.tasks.scorer import Scorer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

DECIDED = 0.1
"""How far apart a unit's two most probable labels must be for int8 not to change its prediction."""


class SoftmaxHead(Head, ABC):
    """A head with one logit for each label; predictions are their softmax."""

    def predictions(self, outputs: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return probabilities, (units, labels); those of a unit sum to one."""
        import numpy as np

        logits = outputs.astype(np.float64)
        powers: NDArray[np.float64] = np.exp(logits - logits.max(axis=-1, keepdims=True))
        shares: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
        return shares

    def rounding(self, exact: NDArray[np.float64], rough: NDArray[np.float64]) -> Rounding:
        """Compare probabilities; a unit is decided if its two greatest are at least 0.1 apart."""
        import numpy as np

        ranked = np.sort(exact, axis=1)
        decided = np.asarray(ranked[:, -1] - ranked[:, -2] >= DECIDED)
        return super().rounding(exact, rough)._replace(decided=decided)


class SoftmaxObjective(Objective, ABC):
    """Losses of logits, (units, labels)."""

    def divergence(self, outputs: Tensor, other: Tensor) -> Tensor:
        """Return the Kullback-Leibler divergence of each unit's probabilities, in nats."""
        exact = outputs.double().log_softmax(dim=-1)
        rough = other.double().log_softmax(dim=-1)
        nats: Tensor = (exact.exp() * (exact - rough)).sum(dim=-1)
        return nats


class SingleLabelScorer(Scorer, ABC):
    """Compares the most probable labels."""

    def agreement(
        self, ours: NDArray[np.float64], theirs: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Return which units have the same most probable label."""
        import numpy as np

        return np.asarray(formulas.answers(ours) == formulas.answers(theirs))


class SingleLabelPresenter(Presenter, ABC):
    """Shows the most probable label of a unit."""

    def confidence(
        self, predictions: NDArray[np.float64], truth: Sequence[Any]
    ) -> NDArray[np.float64]:
        """Return the probability of the most probable label; 0 for a prediction that is NaN."""
        import numpy as np

        is_number = formulas.answers(predictions) >= 0
        return np.where(is_number, predictions.max(axis=1), 0.0)
