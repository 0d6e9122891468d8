"""The heads and neurons that pruning removes: ranked, chosen, taken out, and the rest rescaled."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from pipeline.model import parts
from pipeline.stage import Context
from pipeline.stage.tasks import Task
from pipeline.store.artifact import Metric
from pipeline.terms.errors import ModelError
from pipeline.terms.progress import Progress
from stages import calibration, fisher, multiply_adds, rescaling, surgery
from stages.allocation import MULTIPLES
from stages.fisher import Sensitivity
from stages.parameters import Row
from stages.speedup import Speedup
from stages.surgery import Part, Unit

log = logging.getLogger(__name__)
Batch = dict[str, Tensor]
Sets = Mapping[Unit, list[Part]]
"""The parts of each kind, in the order of the layers."""

MISSED = 5
"""Percentage points by which a share may be missed without a word."""
RESCALE_ROWS = 256
"""Rows of the least-squares problem: thousands of tokens for at most thousands of unknowns."""


@dataclass(frozen=True)
class Start:
    """The units in each layer of a network, and their multiply-adds for each token, by kind."""

    units: Mapping[Unit, Sequence[int]]
    costs: Mapping[Unit, Sequence[float]]

    @property
    def cost(self) -> float:
        """The multiply-adds of all units."""
        return sum(map(sum, self.costs.values()))

    def of(self, layers: Sequence[int]) -> Start:
        """Return what some of the layers have."""
        return Start(
            {unit: [counts[at] for at in layers] for unit, counts in self.units.items()},
            {unit: [costs[at] for at in layers] for unit, costs in self.costs.items()},
        )


def measured(network: Any) -> Start:
    """Return what a network has; heads that cannot be removed are not counted."""
    stay = parts.of(network).heads_stay(network.config.to_dict())
    kinds: tuple[Unit, ...] = ("neurons",) if stay else ("heads", "neurons")
    found = {unit: surgery.parts(network, unit) for unit in kinds}
    return Start(
        {unit: [part.count for part in found[unit]] for unit in kinds},
        {unit: [multiply_adds.of_part(part) for part in found[unit]] for unit in kinds},
    )


def share(macs: float, parameters: int | None, network: Any, start: Start) -> float:
    """Return the share of the units' multiply-adds that goes: ``macs``, or for ``parameters``.

    Raises ModelError if so much cannot go, because each layer keeps some of its units.
    """
    if parameters is not None:
        macs = share_beyond(parameters, network, start)
    if not macs:
        return macs
    sets = {unit: surgery.parts(network, unit) for unit in start.units}
    alike = {unit: [torch.zeros(part.count) for part in sets[unit]] for unit in sets}
    try:
        multiply_adds.counts(alike, sets, (1 - macs) * start.cost)
    except ModelError as error:
        if parameters is None:
            raise
        raise ModelError(
            f"prune.parameters: {parameters:,} is out of reach, as each layer keeps some heads and "
            "neurons; remove layers or tokens as well"
        ) from error
    return macs


def share_beyond(parameters: int, network: Any, start: Start) -> float:
    """Return the share of the units' weights that goes if a network keeps so many ``parameters``.

    For each token, a weight is one multiply-add. Raises ModelError if the rest has more.
    """
    units = start.cost
    rest = sum(weight.numel() for weight in network.parameters()) - units
    if parameters <= rest:
        raise ModelError(
            f"prune.parameters: {parameters:,} is out of reach, as {rest:,.0f} are not of "
            "heads and neurons; remove layers or tokens as well"
        )
    return max(0.0, 1 - (parameters - rest) / units)


@dataclass(frozen=True)
class Removed:
    """What one of several rounds removes, which together remove what was asked for.

    Heads and neurons go by their ``shares``, or together: a share of the multiply-adds (``macs``),
    or as many as a ``speedup`` needs. ``number``: of the round, from 1; ``start``: what the layers
    that are left had before the first.
    """

    shares: Mapping[Unit, float]
    macs: float
    speedup: Speedup | None
    method: Literal["fisher", "taylor", "magnitude"]
    rescale: bool
    rounds: int
    number: int
    start: Start

    def kinds(self, network: Any) -> list[Unit]:
        """Return the kinds of units that go."""
        if self.speedup:
            return self.speedup.kinds
        if self.macs:
            return list(self.start.units)
        return [unit for unit, share in self.shares.items() if share]

    def left(self, whole: float) -> float:
        """Return the share that is left after this round, if all rounds remove ``whole``.

        Of what there was at the start, so that no round adds to another's rounding.
        """
        return float((1 - whole) ** (self.number / self.rounds))


def remove(context: Context, network: Any, rows: list[Row], removed: Removed) -> list[Metric]:
    """Remove a round's heads and neurons in place, and rescale the remaining ones."""
    sets = {unit: surgery.parts(network, unit) for unit in removed.kinds(network)}
    ordered = surgery.forward_order(sets.values())
    few = list(calibration.batches(spread(rows, RESCALE_ROWS), context.device))
    again = "" if removed.number == 1 else f"_{removed.number}"
    metrics = _mean_loss(context.task, network, few, f"calibration_loss_before{again}")
    kept = _kept(context, network, rows, sets, removed)
    if removed.speedup:
        metrics += removed.speedup.metrics()
    whole = copy.deepcopy(network) if removed.rescale else None
    surgery.keep_all(network, ordered, kept)
    if whole is not None:
        whole_parts = surgery.forward_order(surgery.parts(whole, unit) for unit in sets)
        note = lambda done, total: context.progress(done, total, "rescaling")  # noqa: E731
        abandoned = rescaling.rescale(network, ordered, whole, whole_parts, few, note)
        name = f"rescaling_abandoned{again}"
        metrics.append(Metric(name=name, value=abandoned, n=len(ordered)))
    return metrics + _mean_loss(context.task, network, few, f"calibration_loss{again}")


def spread(rows: list[Row], count: int) -> list[Row]:
    """Return at most ``count`` rows, as far apart as they can be.

    Where a row has two texts that are read alone, the first ones of all come before the second.
    """
    few = min(count, len(rows))
    return [rows[at * len(rows) // few] for at in range(few)]


def _kept(
    context: Context, network: Any, rows: list[Row], sets: Sets, removed: Removed
) -> list[Tensor]:
    """Return the units to keep, one entry per part in the order of the forward pass.

    Heads and neurons are ranked across the whole model: each alone by the share of them that goes,
    or together by what they cost. The ranking decides how many units a part keeps, and which. The
    Fisher blocks then correct which ones.
    """
    sensitivities: dict[Unit, list[Sensitivity]] = {}
    if removed.method != "magnitude":
        sensitivities = _sensitivities(context, network, rows, sets)
    importance = {
        unit: _importance(sets[unit], sensitivities.get(unit), removed.method) for unit in sets
    }

    def chosen(counts: Mapping[Unit, list[int]]) -> list[Tensor]:
        kept = {
            unit: [fisher.best(*each) for each in zip(ranked, counts[unit], strict=True)]
            for unit, ranked in importance.items()
        }
        if removed.method == "fisher":
            kept = {
                unit: [
                    fisher.rearrange(each.fisher, units)
                    for each, units in zip(sensitivities[unit], kept[unit], strict=True)
                ]
                for unit in sets
            }
        return surgery.forward_order(kept.values())

    if removed.speedup:
        return removed.speedup.search(importance, chosen, removed.number / removed.rounds)
    if removed.macs:
        budget = removed.left(removed.macs) * removed.start.cost
        return chosen(multiply_adds.counts(importance, sets, budget))
    counts = {
        unit: fisher.keep_counts(
            ranked,
            round(removed.left(removed.shares[unit]) * sum(removed.start.units[unit])),
            least=MULTIPLES[unit],
            multiple=MULTIPLES[unit],
        )
        for unit, ranked in importance.items()
    }
    if removed.number == removed.rounds:
        for unit, left in counts.items():
            whole, asked = sum(removed.start.units[unit]), 100 * removed.shares[unit]
            gone = 100 * (1 - sum(left) / whole)
            if not gone:
                log.warning("prune.%s: %.3g %% of %d rounds to none", unit, asked, whole)
            elif gone < asked - MISSED:
                said = "prune.%s: %.3g %% were asked for, and %.3g %% go, as each layer keeps some"
                log.warning(said, unit, asked, gone)
    return chosen(counts)


def _sensitivities(
    context: Context, network: Any, rows: list[Row], sets: Sets
) -> dict[Unit, list[Sensitivity]]:
    """Return the loss's sensitivity to each layer's units."""
    batches = list(calibration.batches(rows, context.device))
    watched = _watched(batches, context.progress, "gradients of the masks")
    ordered = surgery.forward_order(sets.values())
    found = fisher.sensitivities(network, ordered, watched, context.task.objective.summed_loss())
    return {unit: found[at :: len(sets)] for at, unit in enumerate(sets)}


def _importance(
    layers: list[Part], sensitivities: list[Sensitivity] | None, method: str
) -> list[Tensor]:
    """Return the importance of each unit in each layer; the least important go first."""
    if sensitivities is None:
        return [fisher.magnitude(part) for part in layers]
    if method == "taylor":
        return [each.taylor for each in sensitivities]
    return [each.fisher.diagonal() for each in sensitivities]


def _mean_loss(task: Task, network: Any, batches: list[Batch], name: str) -> list[Metric]:
    """Return the mean loss of rows, rounded to digits that the thread count does not change.

    A body's has gradients that tell something, but its value is a sum with random signs: none.
    """
    if task.head.body_only:
        return []
    with torch.no_grad():
        total = 0.0
        for batch in batches:
            outputs = task.head.outputs(network, batch)
            total += float(task.objective.loss(outputs, batch, total=True))
    mean = total / sum(len(batch["input_ids"]) for batch in batches)
    return [Metric(name=name, split="train", value=round(mean, 4))]


def _watched(batches: list[Batch], progress: Progress, note: str) -> Iterator[Batch]:
    for done, batch in enumerate(batches):
        yield batch
        progress(done + 1, len(batches), note)
