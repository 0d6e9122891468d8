"""How much int8 changes a model's answers, layer by layer: fake quantization and KL divergence.

Fake quantization rounds floats to integers and back, which gives the numbers that the integer
kernels compute. Wu et al. 2020 (arXiv 2004.09602).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from pipeline.model import parts, quantization
from pipeline.stage.tasks import Task
from pipeline.stage.tasks.task import Row
from pipeline.terms.progress import Progress
from pipeline.terms.vocabulary import Isa
from stages import calibration
from stages.ranges import Range

Rows = Sequence[Row]
BATCH = 16


def linear_layers(model: nn.Module) -> list[str]:
    """Return the module paths of all linear layers except the last, which gives the logits.

    Of a body without a head, all but those of its pooler, which nothing reads.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if parts.body(model) is parts.unwrapped(model):
        return [name for name in names if not name.startswith("pooler.")]
    return names[:-1]


def fake_quantize(values: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Round to uint8 with a zero point and back; ``low``, ``high`` broadcast against ``values``."""
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = ((high - low) / 255).clamp(min=1e-12)
    zero = (-low / scale).round().clamp(0, 255)
    return ((values / scale).round() + zero).clamp(0, 255).sub(zero).mul(scale)


def fake_quantize_weight(weight: torch.Tensor, isa: Isa) -> torch.Tensor:
    """Round to int8 and back, symmetrically, with one scale per output (outputs × inputs)."""
    scales = quantization.weight_scales(weight.T.float().cpu().numpy(), isa)
    scale = torch.from_numpy(scales).to(weight)[:, None]
    largest = quantization.LARGEST
    return (weight / scale).round().clamp(-largest, largest) * scale


@torch.no_grad()
def damages(
    task: Task,
    model: nn.Module,
    names: Sequence[str],
    rows: Rows,
    ranges: Mapping[str, Range],
    isa: Isa,
    progress: Progress,
) -> dict[str, float]:
    """Return each layer's damage when it alone is in int8.

    It is the task's divergence of the answers from the exact ones, e.g. KL in nats; the mean over
    units.
    """
    batches = list(calibration.batches(rows, "cpu", BATCH))
    exact = _answers(task, model, batches)
    by_group = {}
    for position, name in enumerate(names):
        progress(position, len(names), f"trying {name} in int8")
        with _quantized(model, [name], ranges, isa):
            by_group[name] = float(task.divergence(exact, _answers(task, model, batches)).mean())
    return by_group


@torch.no_grad()
def joint_damage(
    task: Task,
    model: nn.Module,
    names: Sequence[str],
    rows: Rows,
    ranges: Mapping[str, Range],
    isa: Isa,
) -> float:
    """Return the damage, as in ``damages``, when all these layers are in int8."""
    batches = list(calibration.batches(rows, "cpu", BATCH))
    exact = _answers(task, model, batches)
    with _quantized(model, names, ranges, isa):
        return float(task.divergence(exact, _answers(task, model, batches)).mean())


@contextlib.contextmanager
def _quantized(
    model: nn.Module, names: Sequence[str], ranges: Mapping[str, Range], isa: Isa
) -> Iterator[None]:
    """Fake-quantize these layers' weights and inputs inside a ``with`` block."""
    undo: list[Callable[[], Any]] = []
    try:
        for name in names:
            module = model.get_submodule(name)
            assert isinstance(module, nn.Linear)
            weight = module.weight.data
            undo.append(lambda module=module, weight=weight: setattr(module.weight, "data", weight))
            module.weight.data = fake_quantize_weight(weight, isa)
            undo.append(module.register_forward_pre_hook(_rounder(ranges.get(name))).remove)
        yield
    finally:
        for step in undo:
            step()


def _rounder(limits: Range | None) -> Callable[..., tuple[torch.Tensor]]:
    def round_inputs(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        values = inputs[0]
        if limits is not None:
            low, high = torch.tensor(limits[0]), torch.tensor(limits[1])
        else:
            # Bundles run rows one by one, so each row has a range of its own.
            axes = tuple(range(1, values.dim()))
            low, high = values.amin(axes, keepdim=True), values.amax(axes, keepdim=True)
        return (fake_quantize(values, low, high),)

    return round_inputs


def _answers(
    task: Task, model: nn.Module, batches: Sequence[dict[str, torch.Tensor]]
) -> torch.Tensor:
    """Return the raw outputs, units × width, in the order of the batches."""
    return torch.cat([task.outputs(model, batch) for batch in batches])
