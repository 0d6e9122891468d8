"""What a task's model learns: the losses of training, of distillation and of sensitivities."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from rarefy.pipeline.tasks.part import Part

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from rarefy.pipeline.data.split import Split

LossFunction = Callable[[Any, dict[str, "Tensor"]], "Tensor"]
"""``loss(model, batch)``, a scalar."""


class Objective(Part):
    """The losses of a task. ``outputs`` are a batch's raw outputs, (units, width)."""

    of_labels: ClassVar[bool] = True
    """Whether its targets are labels, which ``temperature`` softens."""
    linear: ClassVar[Literal["classes", "flags", "scores"] | None] = None
    """What a linear model on words would predict: one of the labels, several, or a score."""

    @abstractmethod
    def loss(self, outputs: Tensor, batch: Mapping[str, Tensor], *, total: bool) -> Tensor:
        """Return the loss of raw outputs against a batch's ``labels``, a scalar.

        Args:
            outputs: (units, width).
            batch: with the targets as ``labels``.
            total: return the sum over units instead of the mean over units with a target, which
                is 0 if there are none.
        """

    @abstractmethod
    def imitation(self, outputs: Tensor, goal: Tensor, temperature: float) -> Tensor:
        """Return the loss of a student's raw outputs against its teacher's, a scalar.

        Args:
            outputs: the student's, (units, width).
            goal: the teacher's, (units, width).
            temperature: softens both, where they are logits of labels.
        """

    def projection(self, outputs: Tensor, width: int) -> Tensor | None:
        """Return what brings a teacher's outputs (units, its width) to that of its student.

        A matrix, (its width, ``width``); None if they are learned as they are.
        """
        return None

    @abstractmethod
    def divergence(self, outputs: Tensor, other: Tensor) -> Tensor:
        """Return how far each unit's other outputs are from these: (units,), 0 if equal."""

    def training_loss(self) -> LossFunction:
        """Return the loss function of training without a teacher."""

        def loss(model: Any, batch: dict[str, Tensor]) -> Tensor:
            outputs = self.task.head.outputs(model, batch)
            return self.loss(outputs, batch, total=False)

        return loss

    def summed_loss(self) -> LossFunction:
        """Return the loss function summed over the rows of a batch, for their gradients."""

        def loss(model: Any, batch: dict[str, Tensor]) -> Tensor:
            outputs = self.task.head.outputs(model, batch)
            return self.loss(outputs, batch, total=True)

        return loss

    def targets(self, predictions: NDArray[np.float64], split: Split) -> list[Any]:
        """Return a split's targets if a model's predictions (units, columns) are the truth.

        JSON can hold them. Only for the splits that are ``Reader.self_labelled``.
        """
        raise NotImplementedError
