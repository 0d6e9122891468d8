"""Tasks whose units have one label each, so that an answer is a probability of each label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rarefy.pipeline.tasks.shared import formulas
from rarefy.pipeline.tasks.task import Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

DECIDED = 0.1
"""How far apart a unit's two most probable labels must be for int8 not to change its answer."""


@dataclass(frozen=True)
class SingleLabel(Task):
    """A task of logits, units × labels; its answers are their softmax."""

    def divergence(self, outputs: Tensor, other: Tensor) -> Tensor:
        """Return the Kullback-Leibler divergence of each unit's answers, in nats."""
        exact, rough = (logits.double().log_softmax(dim=-1) for logits in (outputs, other))
        nats: Tensor = (exact.exp() * (exact - rough)).sum(dim=-1)
        return nats

    def answers(self, outputs: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return probabilities, units × labels; those of a unit sum to one."""
        import numpy as np

        wide = outputs.astype(np.float64)
        powers: NDArray[np.float64] = np.exp(wide - wide.max(axis=-1, keepdims=True))
        shares: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
        return shares

    @classmethod
    def same(cls, ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return for each unit whether the most probable label is the same."""
        import numpy as np

        return np.asarray(formulas.answers(ours) == formulas.answers(theirs))

    @classmethod
    def decided(cls, answers: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which units have two most probable labels that are at least 0.1 apart."""
        import numpy as np

        top = np.sort(answers, axis=1)
        return np.asarray(top[:, -1] - top[:, -2] >= DECIDED)

    @classmethod
    def sureness(cls, answers: NDArray[np.float64], truth: Sequence[Any]) -> NDArray[np.float64]:
        """Return the probability of the most probable label; 0 for an answer that is NaN."""
        import numpy as np

        return np.where(formulas.answers(answers) >= 0, answers.max(axis=1), 0.0)
