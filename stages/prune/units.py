"""The heads and neurons that pruning removes: ranked, chosen, taken out, and the rest repaired."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rarefy.pipeline.model.architectures import parts
from rarefy.pipeline.stage import Context
from rarefy.pipeline.store.artifact import Metric
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.terms.errors import ModelError
from rarefy.pipeline.terms.progress import Progress
from rarefy.stages.prune import importance as fisher
from rarefy.stages.prune import repair, selection
from rarefy.stages.prune.importance import CRITERIA, Sensitivity
from rarefy.stages.prune.selection import MULTIPLES
from rarefy.stages.prune.speedup import Speedup
from rarefy.stages.surgery import units as surgery
from rarefy.stages.surgery.units import Part, Unit
from rarefy.stages.training import calibration_rows
from rarefy.stages.training.parameters import Row

log = logging.getLogger(__name__)
Batch = dict[str, Tensor]
Sets = Mapping[Unit, list[Part]]
"""The parts of each kind, in the order of the layers."""

MISSED = 5
"""Percentage points by which a share may be missed without a warning."""
REPAIR_ROWS = 256
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

    def select(self, layers: Sequence[int]) -> Start:
        """Return what some of the layers have."""
        units, costs = {}, {}
        for unit, counts in self.units.items():
            units[unit] = [counts[layer] for layer in layers]
            costs[unit] = [self.costs[unit][layer] for layer in layers]
        return Start(units, costs)


def measured(network: Any) -> Start:
    """Return what a network has; heads that cannot be removed are not counted."""
    kinds: tuple[Unit, ...] = ("heads", "neurons")
    if parts.of(network).heads_stay(network.config.to_dict()):
        kinds = ("neurons",)
    units, costs = {}, {}
    for unit in kinds:
        layers = surgery.parts(network, unit)
        units[unit] = [part.count for part in layers]
        costs[unit] = [selection.multiply_adds_of_part(part) for part in layers]
    return Start(units, costs)


def share(macs: float, parameters: int | None, network: Any, start: Start) -> float:
    """Return the share of the units' multiply-adds that goes: ``macs``, or for ``parameters``.

    Raises ModelError if so much cannot go, because each layer keeps some of its units.
    """
    if parameters is not None:
        macs = share_beyond(parameters, network, start)
    if not macs:
        return macs
    sets, equal = {}, {}
    for unit in start.units:
        sets[unit] = surgery.parts(network, unit)
        equal[unit] = [torch.zeros(part.count) for part in sets[unit]]
    try:
        selection.counts_for_multiply_adds(equal, sets, (1 - macs) * start.cost)
    except ModelError as error:
        if parameters is None:
            raise
        raise ModelError(
            f"prune.keep_parameters: {parameters:,} is out of reach, as each layer keeps some "
            "heads and neurons; remove layers or tokens as well"
        ) from error
    return macs


def share_beyond(parameters: int, network: Any, start: Start) -> float:
    """Return the share of the units' weights that goes if a network keeps so many ``parameters``.

    For each token, a weight is one multiply-add. Raises ModelError if the rest has more.
    """
    units = start.cost
    total = sum(weight.numel() for weight in network.parameters())
    rest = total - units
    if parameters <= rest:
        raise ModelError(
            f"prune.keep_parameters: {parameters:,} is out of reach, as {rest:,.0f} are not of "
            "heads and neurons; remove layers or tokens as well"
        )
    return max(0.0, 1 - (parameters - rest) / units)


@dataclass(frozen=True)
class Removed:
    """What one of several rounds removes, which together remove what the recipe says.

    Heads and neurons go by their ``shares``, or together: a share of the multiply-adds (``macs``),
    or as many as a ``speedup`` needs.

    Attributes:
        shares: the share of each kind of units to remove in all rounds.
        macs: the share of the multiply-adds to remove in all rounds, or 0.
        speedup: the search for a speed-up, if there is one.
        method: the criterion of ``fisher.CRITERIA`` that ranks units.
        repair: whether the layers that read the remaining units are solved again.
        rounds: the number of rounds.
        number: of the round, from 1.
        start: what the layers that are left had before the first round.
    """

    shares: Mapping[Unit, float]
    macs: float
    speedup: Speedup | None
    method: str
    repair: bool
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
    """Remove a round's heads and neurons in place, and repair what reads the others."""
    sets = {unit: surgery.parts(network, unit) for unit in removed.kinds(network)}
    ordered = surgery.forward_order(sets.values())
    repair_rows = spread(rows, REPAIR_ROWS)
    few = list(calibration_rows.batches(repair_rows, context.device))
    suffix = ""
    if removed.number > 1:
        suffix = f"_{removed.number}"
    metrics = _mean_loss(context.task, network, few, f"calibration_loss_before{suffix}")
    retained = _retained(context, network, rows, sets, removed)
    if removed.speedup:
        metrics += removed.speedup.metrics()
    whole = copy.deepcopy(network) if removed.repair else None
    surgery.keep_all(network, ordered, retained)
    if whole is not None:
        whole_parts = surgery.forward_order(surgery.parts(whole, unit) for unit in sets)

        def report(done: int, total: int) -> None:
            context.progress(done, total, "repairing")

        unsolved = repair.repair(network, ordered, whole, whole_parts, few, report)
        metrics.append(Metric(name=f"unrepaired{suffix}", value=unsolved, n=len(ordered)))
    metrics += _mean_loss(context.task, network, few, f"calibration_loss{suffix}")
    return metrics


def spread(rows: list[Row], count: int) -> list[Row]:
    """Return at most ``count`` rows, as far apart as they can be.

    Where a row has two texts that are read alone, the first ones of all come before the second.
    """
    few = min(count, len(rows))
    return [rows[at * len(rows) // few] for at in range(few)]


def _retained(
    context: Context, network: Any, rows: list[Row], sets: Sets, removed: Removed
) -> list[Tensor]:
    """Return the units to keep, one entry per part in the order of the forward pass.

    Heads and neurons are ranked across the whole model: each alone by the share of them that goes,
    or together by what they cost. The ranking decides how many units a part keeps, and which. The
    Fisher blocks then correct which ones, if the criterion says so.
    """
    criterion = CRITERIA[removed.method]
    sensitivities: dict[Unit, list[Sensitivity]] = {}
    if criterion.needs_gradients:
        sensitivities = _sensitivities(context, network, rows, sets)
    importance: dict[Unit, list[Tensor]] = {}
    for unit, layers in sets.items():
        gradients = sensitivities.get(unit) or [None] * len(layers)
        pairs = zip(layers, gradients, strict=True)
        importance[unit] = [criterion.importance(part, gradient) for part, gradient in pairs]

    def choose(counts: Mapping[Unit, list[int]]) -> list[Tensor]:
        """Return the units to keep if parts keep so many."""
        by_unit = []
        for unit, ranked in importance.items():
            chosen = []
            for layer, values in enumerate(ranked):
                units = selection.best(values, counts[unit][layer])
                if criterion.corrects:
                    units = fisher.rearrange(sensitivities[unit][layer].fisher, units)
                chosen.append(units)
            by_unit.append(chosen)
        return surgery.forward_order(by_unit)

    if removed.speedup:
        return removed.speedup.search(importance, choose, removed.number / removed.rounds)
    if removed.macs:
        budget = removed.left(removed.macs) * removed.start.cost
        return choose(selection.counts_for_multiply_adds(importance, sets, budget))
    counts = _counts_by_share(importance, removed)
    if removed.number == removed.rounds:
        _warn_of_missed_shares(counts, removed)
    return choose(counts)


def _counts_by_share(
    importance: Mapping[Unit, list[Tensor]], removed: Removed
) -> dict[Unit, list[int]]:
    """Return how many units each part keeps if a share of each kind goes."""
    counts = {}
    for unit, ranked in importance.items():
        before = sum(removed.start.units[unit])
        places = round(removed.left(removed.shares[unit]) * before)
        multiple = MULTIPLES[unit]
        counts[unit] = selection.keep_counts(ranked, places, least=multiple, multiple=multiple)
    return counts


def _warn_of_missed_shares(counts: Mapping[Unit, list[int]], removed: Removed) -> None:
    """Warn if far less than a share goes, because each layer keeps some of its units."""
    for unit, left in counts.items():
        whole = sum(removed.start.units[unit])
        percent = 100 * removed.shares[unit]
        gone = 100 * (1 - sum(left) / whole)
        if not gone:
            log.warning("prune.remove_%s: %.3g%% of %d rounds to none", unit, percent, whole)
        elif gone < percent - MISSED:
            text = (
                "prune.remove_%s: %.3g%% requested, %.3g%% removed: "
                "every layer keeps at least one unit"
            )
            log.warning(text, unit, percent, gone)


def _sensitivities(
    context: Context, network: Any, rows: list[Row], sets: Sets
) -> dict[Unit, list[Sensitivity]]:
    """Return the loss's sensitivity to each layer's units."""
    batches = list(calibration_rows.batches(rows, context.device))
    reported = _report(batches, context.progress, "gradients of the masks")
    ordered = surgery.forward_order(sets.values())
    loss = context.task.objective.summed_loss()
    sums = fisher.sensitivities(network, ordered, reported, loss)
    return {unit: sums[start :: len(sets)] for start, unit in enumerate(sets)}


def _mean_loss(task: Task, network: Any, batches: list[Batch], name: str) -> list[Metric]:
    """Return the mean loss of rows, rounded to digits that the thread count does not change.

    A body's has gradients that tell something, but its value is a sum with random signs: none.
    """
    if task.head.body_only:
        return []
    losses, rows = [], 0
    with torch.no_grad():
        for batch in batches:
            outputs = task.head.outputs(network, batch)
            loss = task.objective.loss(outputs, batch, total=True)
            losses.append(float(loss))
            rows += len(batch["input_ids"])
    mean = sum(losses) / rows
    return [Metric(name=name, split="train", value=round(mean, 4))]


def _report(batches: list[Batch], progress: Progress, note: str) -> Iterator[Batch]:
    """Yield batches, and report each that is done."""
    for done, batch in enumerate(batches):
        yield batch
        progress(done + 1, len(batches), note)
