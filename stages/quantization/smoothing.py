"""Factors that move the range of large input channels into the weights, where that pays.

Xiao et al. 2022, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language
Models" (arXiv 2211.10438).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from rarefy.pipeline.model.quantization.plan import LinearPlan
from rarefy.pipeline.tasks.task import Row
from rarefy.pipeline.terms.progress import Progress, silent
from rarefy.pipeline.terms.recipe_parts import Isa
from rarefy.stages.quantization import ranges, sensitivity

STRENGTHS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""α of the paper: 0 leaves all range in the inputs, 1 moves all of it into the weights."""
NONE = 0.0
"""The strength of inputs that are not divided."""
WORTH = 0.5
"""The most of a group's error that may be left: a division costs time wherever it is not folded."""
LEAST = 1e-5
SHARE = 0.25
"""Of the middle channel's largest input: the least that is expected of any. One that calibration
rows leave idle (behind a ReLU) would take a later row's whole range if its factor followed them."""
ROWS = 64
"""Rows on which strengths are compared."""


def factors(
    model: nn.Module,
    groups: Iterable[Sequence[str]],
    rows: Sequence[Row],
    isa: Isa,
    progress: Progress = silent,
) -> dict[str, tuple[float, ...]]:
    """Return factors, one per input, of the layers whose error they at least halve.

    The layers of a group read the same inputs and have the same factors. A channel's factor is
    (its largest input)^α / (its largest weight)^(1 − α), as a ratio to the geometric mean of all
    channels, which a scale takes away anyway; no largest input counts as less than ``SHARE`` of
    the middle channel's. α is the one with which the group's outputs have the
    least squared error after rounding: one α for all groups makes some of them worse.

    Args:
        model: in eval mode.
        groups: paths of the linear layers that read the same inputs.
        rows: tokenized calibration rows.
        isa: the width of weights.
        progress: called with rows that are done.
    """
    members = {names[0]: list(names) for names in groups}
    largest = _largest_inputs(model, list(members), rows, progress)
    every = max(1, len(rows) // ROWS)
    few = rows[::every]
    layers: dict[float, dict[str, LinearPlan]] = {}
    errors: dict[float, dict[str, float]] = {}
    for strength in (NONE, *STRENGTHS):
        layers[strength] = {}
        for first, names in members.items():
            values = None
            if strength != NONE:
                weights = _weights(model, names)
                values = _factors(weights, largest[first], strength)
            layers[strength][first] = LinearPlan(precision="int8", factors=values)
        note = f"trying smoothing with strength {strength:g}"
        plan = layers[strength]
        errors[strength] = _errors(model, members, plan, few, isa, progress, note)
    chosen: dict[str, tuple[float, ...]] = {}
    for first, names in members.items():
        by_strength = {strength: errors[strength][first] for strength in STRENGTHS}
        best = min(by_strength, key=by_strength.__getitem__)
        if by_strength[best] <= WORTH * errors[NONE][first]:
            chosen |= dict.fromkeys(names, layers[best][first].factors)
    return chosen


def _weights(model: nn.Module, names: Sequence[str]) -> list[Tensor]:
    """Return the weights of some layers, each (outputs, inputs)."""
    return [sensitivity.linear(model, name).weight.detach() for name in names]


def _factors(weights: Sequence[Tensor], largest: Tensor, strength: float) -> tuple[float, ...]:
    """Return a factor for each input of a group of layers.

    Args:
        weights: (outputs, inputs) of each layer.
        largest: (inputs,), the largest magnitude of each.
        strength: α of the paper.
    """
    by_layer = [weight.abs().amax(dim=0) for weight in weights]
    heaviest = torch.stack(by_layer).amax(dim=0)
    heaviest = heaviest.clamp(min=LEAST)
    powers = strength * _expected(largest).log()
    powers -= (1 - strength) * heaviest.log()
    ratios = (powers - powers.mean()).exp()
    return tuple(_short(value) for value in ratios.tolist())


def _expected(largest: Tensor) -> Tensor:
    """Return the largest magnitude of each input that is expected of rows to come."""
    used = largest[largest > 0]
    middle = 0.0
    if len(used):
        middle = float(used.median())
    return largest.clamp(min=max(SHARE * middle, LEAST))


def _errors(
    model: nn.Module,
    members: Mapping[str, Sequence[str]],
    layers: Mapping[str, LinearPlan],
    rows: Sequence[Row],
    isa: Isa,
    progress: Progress,
    note: str,
) -> dict[str, float]:
    """Return the squared error of each group's outputs, rounded as the plan of its first says."""
    errors = dict.fromkeys(members, 0.0)
    weights = {}
    for first, names in members.items():
        for name in names:
            linear = sensitivity.linear(model, name)
            weights[name] = sensitivity.rounded_weight(linear, layers[first], isa)

    def see(first: str, values: Tensor) -> None:
        rounded = sensitivity.rounded_inputs(values, layers[first])
        for name in members[first]:
            linear = sensitivity.linear(model, name)
            exact = functional.linear(values, linear.weight)
            error = functional.linear(rounded, weights[name]) - exact
            errors[first] += float(error.square().sum())

    ranges.watch(model, list(members), rows, see, progress, note)
    return errors


def _short(value: float) -> float:
    """Return a number of four digits, which a plan holds in fewer bytes."""
    return float(f"{value:.4g}")


def _largest_inputs(
    model: nn.Module, names: Sequence[str], rows: Sequence[Row], progress: Progress
) -> Mapping[str, torch.Tensor]:
    """Return the largest magnitude (inputs,) of each input of each layer."""
    largest: dict[str, torch.Tensor] = {}

    def see(name: str, values: torch.Tensor) -> None:
        tokens = values.abs().flatten(0, -2)
        greatest = tokens.amax(dim=0)
        if name in largest:
            greatest = torch.maximum(largest[name], greatest)
        largest[name] = greatest

    ranges.watch(model, names, rows, see, progress, "recording the largest inputs")
    return largest


def groups(model: nn.Module, names: Sequence[str], row: Row) -> list[list[str]]:
    """Return the layers that read the same inputs together, such as queries, keys and values."""
    inputs: dict[str, torch.Tensor] = {}

    def see(name: str, values: torch.Tensor) -> None:
        inputs.setdefault(name, values)

    ranges.watch(model, names, [row], see)
    by_address: dict[int, list[str]] = {}
    for name, values in inputs.items():
        members = by_address.setdefault(values.data_ptr(), [])
        members.append(name)
    return list(by_address.values())
