"""The loss of a student's hidden states against those of its teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from rarefy.pipeline.tasks.shared import losses
from rarefy.stages.teachers.states import States

PROJECTIONS = "distillation_projections"
"""The name of the module in a student that makes its hidden states as wide as its teacher's."""


@dataclass(frozen=True)
class StateLoss:
    """Which hidden states are compared, and on which rows."""

    pairs: Sequence[tuple[int, int]]
    """Layers of the student, each with the layer of the teacher that it learns from."""
    weight: float
    """The weight in the student's loss, which all pairs share."""
    widths: tuple[int, int]
    """Of the student's and the teacher's states; a learned projection joins different ones."""
    comparable: Sequence[bool]
    """For each row, whether both tokenizers split it into the same tokens."""

    @property
    def student_layers(self) -> list[int]:
        """The student's layers, each once."""
        layers = [layer for layer, _ in self.pairs]
        return list(dict.fromkeys(layers))

    @property
    def teacher_layers(self) -> list[int]:
        """The teacher's layers, each once, in the order in which their states are stored."""
        layers = [layer for _, layer in self.pairs]
        return list(dict.fromkeys(layers))

    @property
    def projects(self) -> bool:
        """Whether the states need projections, because their widths differ."""
        student, teacher = self.widths
        return student != teacher

    def attach_projections(self, student: Any) -> None:
        """Add a projection for each pair to the student, if needed; they train with it."""
        if self.projects:
            projections = nn.ModuleList(nn.Linear(*self.widths) for _ in self.pairs)
            student.add_module(PROJECTIONS, projections)

    def compute(
        self,
        student: Any,
        student_states: States,
        teacher_states: Sequence[Tensor],
        places: Sequence[int],
        mask: Tensor,
    ) -> Tensor:
        """Return the weighted sum of the losses of all pairs, a scalar.

        Args:
            student: the network, with its projections.
            student_states: of the whole batch.
            teacher_states: one tensor (places, tokens, width) for each of ``teacher_layers``.
            places: the rows of the batch that are compared.
            mask: (places, tokens), 1 for a token and 0 for padding.
        """
        layers = self.teacher_layers
        by_layer = dict(zip(layers, teacher_states, strict=True))
        tokens = mask.shape[1]
        share = self.weight * (1 / len(self.pairs))
        total = mask.new_zeros(()).float()
        for number, (layer, teacher_layer) in enumerate(self.pairs):
            states = student_states[layer][places, :tokens]
            if self.projects:
                project = getattr(student, PROJECTIONS)[number]
                states = project(states.float())
            goal = by_layer[teacher_layer]
            distance = losses.hidden(states, goal, mask)
            total = total + share * distance
        return total


def remove_projections(student: Any) -> None:
    """Remove the projections from a trained student, if it has some."""
    if hasattr(student, PROJECTIONS):
        delattr(student, PROJECTIONS)
