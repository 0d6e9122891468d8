"""How much int8 changes a model's answers, layer by layer: fake quantization and KL divergence.

Fake quantization rounds floats to integers and back, which gives the numbers that the integer
kernels compute. Wu et al. 2020 (arXiv 2004.09602).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import nn

from exporters.passes import embeddings
from pipeline.model import parts, quantization
from pipeline.model.blockwise import Blocks
from pipeline.model.quantization import Embeddings, LinearPlan
from pipeline.stage.tasks import Task
from pipeline.stage.tasks.encoder import Row
from pipeline.terms.progress import Progress
from pipeline.terms.vocabulary import Isa
from stages import calibration, calls
from stages.replay import Replay

Rows = Sequence[Row]
BATCH = 16


def linear_layers(model: nn.Module) -> list[str]:
    """Return the module paths of all linear layers except the last, which gives the logits.

    Of a body without a head, all but those of its pooler, which nothing reads.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if parts.body(model) is parts.unwrapped(model):
        return [name for name in names if name.partition(".")[0] != "pooler"]
    return names[:-1]


def linear(model: nn.Module, name: str) -> nn.Linear:
    """Return a linear layer by its module path."""
    module = model.get_submodule(name)
    assert isinstance(module, nn.Linear)
    return module


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


class Sensitivity:
    """How far a model's answers to some rows move when layers are rounded as a plan says.

    Damage is the task's divergence of the answers from the exact ones, e.g. KL in nats; the mean
    over the units that are read.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        rows: Rows,
        isa: Isa,
        int4: Mapping[str, Blocks] | None = None,
    ) -> None:
        """``int4``: the weights of the layers that a plan may have in int4."""
        self.task, self.model, self.isa, self.int4 = task, model, isa, int4 or {}
        self.embeddings: Embeddings = "float"
        self.batches = list(calibration.batches(rows, "cpu", BATCH))
        self.exact = self._answers()

    def damage(self, layers: Mapping[str, LinearPlan]) -> float:
        """Return the damage when all these layers are rounded, and the tables to ``embeddings``."""
        with rounded_tables(self.model, self.embeddings):
            return self._damage(layers)

    def _damage(self, layers: Mapping[str, LinearPlan]) -> float:
        with quantized(self.model, layers, self.isa, self.int4):
            answers = self._answers()
        read = ~self.exact.isnan().all(dim=-1)  # a word may be cut off: its divergence is 0
        return float(self.task.objective.divergence(self.exact, answers).sum() / read.sum())

    def damages(self, layers: Mapping[str, LinearPlan], progress: Progress) -> dict[str, float]:
        """Return each layer's damage when it alone is rounded.

        Layers of the model before it, which it does not change, are not computed again.
        """
        alone, replay = {}, Replay(self.model)
        for position, (name, layer) in enumerate(layers.items()):
            progress(position, len(layers), f"trying {name} in {layer.precision}")
            replay.before(linear(self.model, name), self._answers)
            with replay.skipping():
                alone[name] = self._damage({name: layer})
        return alone

    @torch.no_grad()
    def _answers(self) -> torch.Tensor:
        """Return the raw outputs, units × width, in the order of the batches."""
        return torch.cat([self.task.head.outputs(self.model, batch) for batch in self.batches])


def rounded_weight(module: nn.Linear, layer: LinearPlan, isa: Isa) -> torch.Tensor:
    """Return a layer's weight times its factors, rounded to int8 and back (outputs × inputs)."""
    weight = module.weight.data
    if layer.factors is not None:
        weight = weight * torch.tensor(layer.factors)
    return fake_quantize_weight(weight, isa)


def divided_inputs(values: torch.Tensor, layer: LinearPlan) -> torch.Tensor:
    """Return a layer's inputs over its factors, if it has some."""
    return values if layer.factors is None else values / torch.tensor(layer.factors)


def rounded_inputs(values: torch.Tensor, layer: LinearPlan) -> torch.Tensor:
    """Return a layer's inputs over its factors, rounded to uint8 and back (rows × … × inputs)."""
    values = divided_inputs(values, layer)
    if layer.low is not None and layer.high is not None:
        low, high = torch.tensor(layer.low), torch.tensor(layer.high)
    else:
        # Bundles run rows one by one, so each row has a range of its own.
        axes = tuple(range(1, values.dim()))
        low, high = values.amin(axes, keepdim=True), values.amax(axes, keepdim=True)
    return fake_quantize(values, low, high)


@contextlib.contextmanager
def rounded_tables(model: nn.Module, precision: Embeddings) -> Iterator[None]:
    """Round the embeddings as ``export`` does, inside a ``with`` block."""
    every = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    tables = every if precision != "float" else []
    exact = [table.weight.data for table in tables]
    try:
        for table, weight in zip(tables, exact, strict=True):
            given = embeddings.rounded(weight.float().cpu().numpy(), precision)
            table.weight.data = torch.from_numpy(given).to(weight)
        yield
    finally:
        for table, weight in zip(tables, exact, strict=True):
            table.weight.data = weight


@contextlib.contextmanager
def quantized(
    model: nn.Module,
    layers: Mapping[str, LinearPlan],
    isa: Isa,
    int4: Mapping[str, Blocks] | None = None,
) -> Iterator[None]:
    """Fake-quantize these layers' weights, inputs and biases inside a ``with`` block.

    ``int4``: the weights of layers that are int4 in the plan, which are then rounded to int8.
    """
    with contextlib.ExitStack() as undo:
        reads_text = undo.enter_context(calls.of_text(model))
        for name, layer in layers.items():
            module = linear(model, name)
            weight = module.weight.data
            undo.callback(setattr, module.weight, "data", weight)
            if layer.precision == "int4":
                module.weight.data = torch.from_numpy((int4 or {})[name].values()).to(weight)
            module.weight.data = rounded_weight(module, layer, isa)
            hook = _input_rounding(name, layer, reads_text)
            undo.callback(module.register_forward_pre_hook(hook).remove)
        yield


def _input_rounding(
    name: str, layer: LinearPlan, reads_text: Callable[[str], bool]
) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], tuple[torch.Tensor]]:
    """Return a hook that rounds the inputs of a layer; a table of positions is not rounded."""

    def change_inputs(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        change = rounded_inputs if reads_text(name) else divided_inputs
        return (change(inputs[0], layer),)

    return change_inputs
