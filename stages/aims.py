"""What a student learns of its teacher besides the answers: states inside, and how they compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from pipeline.stage import losses
from stages import schedule
from stages.internals import HIDDEN, KEY, QUERY, VALUE, Captured, Internal
from stages.schedule import Clock, Weight

PROJECTIONS = "distillation_projections"
"""The name of the module in a student that makes its hidden states as wide as its teacher's."""
HIDDEN_LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "mse": losses.hidden,
    "cosine": losses.cosine,
    "patience": losses.patience,
}
Compare = Callable[[Sequence[Tensor], Sequence[Tensor], Tensor], Tensor]
"""``compare(student's states, teacher's states, mask) -> loss``."""


@dataclass(frozen=True)
class Aim:
    """States of the student, those of the teacher that they should be like, and a loss of both.

    ``projection``: which projection makes the student's states ``width`` wide, as the teacher's
    are; None if none does.
    """

    weight: Weight
    own: tuple[Internal, ...]
    theirs: tuple[Internal, ...]
    compare: Compare
    projection: int | None = None
    width: int = 0


@dataclass(frozen=True)
class Aims:
    """All aims, for the rows that are the ``same`` tokens for both."""

    aims: Sequence[Aim] = ()
    same: Sequence[bool] = ()

    @property
    def own(self) -> list[Internal]:
        """The states of the student, each once."""
        return list(dict.fromkeys(state for aim in self.aims for state in aim.own))

    @property
    def theirs(self) -> list[Internal]:
        """The states of the teacher, each once, in the order in which they are kept."""
        return list(dict.fromkeys(state for aim in self.aims for state in aim.theirs))

    def loss(
        self,
        student: Any,
        found: Captured,
        kept: Sequence[Tensor],
        rows: Sequence[int],
        mask: Tensor,
        clock: Clock | None = None,
    ) -> Tensor:
        """Return the sum of all aims' losses for some rows of a batch, weighted as they are now.

        ``found``: the student's states of the whole batch; ``kept``: each of the teacher's, for
        ``rows``, which are places in the batch: rows × tokens × its width; ``mask``: that of
        ``rows``.
        """
        kept_of = dict(zip(self.theirs, kept, strict=True))
        tokens, total, clock = mask.shape[1], mask.new_zeros(()).float(), clock or Clock()
        for aim in self.aims:
            own = [found[state][rows, :tokens] for state in aim.own]
            if aim.projection is not None:
                project = getattr(student, PROJECTIONS)[aim.projection]
                own = [project(state.float()) for state in own]
            theirs = [kept_of[state] for state in aim.theirs]
            total = total + clock.now(aim.weight) * aim.compare(own, theirs, mask)
        return total


def of_hidden(
    pairs: Sequence[tuple[int, int]], weight: Weight, how: str, widths: tuple[int, int]
) -> list[Aim]:
    """Return an aim for each pair (student's layer, teacher's layer); they share the weight.

    ``widths``: the student's and the teacher's; a learned projection joins different ones.
    """
    loss = HIDDEN_LOSSES[how]

    def compare(own: Sequence[Tensor], theirs: Sequence[Tensor], mask: Tensor) -> Tensor:
        return loss(own[0], theirs[0], mask)

    return [
        Aim(
            schedule.times(weight, 1 / len(pairs)),
            (Internal(HIDDEN, layer),),
            (Internal(HIDDEN, other),),
            compare,
            at if widths[0] != widths[1] else None,
            widths[1],
        )
        for at, (layer, other) in enumerate(pairs)
    ]


def of_relations(layer: int, other: int, weight: Weight, heads: int) -> Aim:
    """Return the aim of MiniLM: queries with keys, and values with values, of one layer."""

    def compare(own: Sequence[Tensor], theirs: Sequence[Tensor], mask: Tensor) -> Tensor:
        pairs = ((0, 1), (2, 2))
        each = (
            losses.relation((own[a], own[b]), (theirs[a], theirs[b]), mask, heads) for a, b in pairs
        )
        return sum(each, own[0].new_zeros(())) / len(pairs)

    kinds = (QUERY, KEY, VALUE)
    states = (tuple(Internal(kind, at) for kind in kinds) for at in (layer, other))  # type: ignore[arg-type]
    return Aim(weight, *states, compare)


def of_attention(layer: int, other: int, weight: Weight, heads: int) -> Aim:
    """Return the aim of TinyBERT's attention: the scores of one layer."""

    def compare(own: Sequence[Tensor], theirs: Sequence[Tensor], mask: Tensor) -> Tensor:
        return losses.attention((own[0], own[1]), (theirs[0], theirs[1]), mask, heads)

    states = (tuple(Internal(kind, at) for kind in (QUERY, KEY)) for at in (layer, other))  # type: ignore[arg-type]
    return Aim(weight, *states, compare)


def project(student: Any, aims: Aims) -> None:
    """Attach the projections that aims need; they train with the student."""
    widths = [aim.width for aim in aims.aims if aim.projection is not None]
    if widths:
        own = student.config.hidden_size
        student.add_module(PROJECTIONS, nn.ModuleList(nn.Linear(own, width) for width in widths))
