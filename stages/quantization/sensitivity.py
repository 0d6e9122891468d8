"""How much int8 changes a model's answers, layer by layer: fake quantization and KL divergence.

Fake quantization rounds floats to integers and back, which gives the numbers that the integer
kernels compute. Wu et al. 2020 (arXiv 2004.09602).

To try each layer alone, most of a model need not run: the outputs of the layers before it are
replayed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from rarefy.exporters.passes import embeddings
from rarefy.pipeline.model.architectures import parts
from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.model.quantization.four_bits import Blocks
from rarefy.pipeline.model.quantization.plan import LinearPlan
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.tasks.task import Row
from rarefy.pipeline.terms.errors import ModelError
from rarefy.pipeline.terms.progress import Progress
from rarefy.pipeline.terms.recipe_parts import Embeddings, Isa
from rarefy.stages.quantization import ranges
from rarefy.stages.training import calibration_rows

Rows = Sequence[Row]
Pass = Callable[[], Any]
"""Runs the same rows through the model in the same order, each time."""
BATCH = 16


def linear_layers(model: nn.Module) -> list[str]:
    """Return the module paths of all linear layers except the last, which gives the logits.

    Of a body without a head, all but those of its pooler, which nothing reads.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    has_head = parts.body(model) is not parts.unwrapped(model)
    if has_head:
        return names[:-1]
    return [name for name in names if name.partition(".")[0] != "pooler"]


def linear(model: nn.Module, name: str) -> nn.Linear:
    """Return a linear layer by its module path."""
    module = model.get_submodule(name)
    assert isinstance(module, nn.Linear)
    return module


def fake_quantize(values: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Round to uint8 with a zero point and back; ``low``, ``high`` broadcast against ``values``."""
    low = low.clamp(max=0)
    width = high.clamp(min=0) - low
    scale = (width / 255).clamp(min=1e-12)
    zero = (-low / scale).round().clamp(0, 255)
    steps = (values / scale).round() + zero
    return steps.clamp(0, 255).sub(zero).mul(scale)


def fake_quantize_weight(weight: torch.Tensor, isa: Isa) -> torch.Tensor:
    """Round a weight (outputs, inputs) to int8 and back, symmetrically, with a scale per output."""
    columns = weight.T.float().cpu().numpy()
    scales = quantization.weight_scales(columns, isa)
    scale = torch.from_numpy(scales).to(weight)[:, None]
    steps = (weight / scale).round()
    largest = quantization.LARGEST
    return steps.clamp(-largest, largest) * scale


def layers_of(model: nn.Module) -> list[nn.Module]:
    """Return the layers in the order in which they run, if each runs once for an input.

    Else, as with the shared layers of ALBERT, and for families that are not described: none.
    """
    try:
        layers = list(parts.encoder_layers(model))
    except ModelError:
        return []
    depth = parts.depth(parts.unwrapped(model).config)
    return layers if depth == len(layers) else []


class Replay:
    """The outputs that the layers before one of a model's gave in an exact pass."""

    def __init__(self, model: nn.Module) -> None:
        self.layers = layers_of(model)
        self.skipped = 0
        self.outputs: list[Any] = []

    def before(self, module: nn.Module, run: Pass) -> None:
        """Skip all layers before the one that holds a module; none if no layer holds it.

        The weights must be exact now. A few passes of ``run`` are made if more layers are skipped
        than before.
        """
        holder = 0
        for place, layer in enumerate(self.layers):
            if module in set(layer.modules()):
                holder = place
                break
        if holder < self.skipped:
            self.skipped, self.outputs = 0, []
        if holder == self.skipped:
            return
        outputs = list[Any]()
        last = self.layers[holder - 1]
        hook = last.register_forward_hook(lambda *call: outputs.append(call[-1]))
        try:
            with self.skipping():
                run()
        finally:
            hook.remove()
        self.skipped, self.outputs = holder, outputs

    @contextlib.contextmanager
    def skipping(self) -> Iterator[None]:
        """Let the skipped layers give their outputs again, in one pass inside a ``with`` block.

        The last of them gives its own outputs; nothing else reads those of the others.
        """
        at = 0

        def last(*_: Any, **__: Any) -> Any:
            nonlocal at
            at += 1
            return self.outputs[at - 1]

        skipped = self.layers[: self.skipped]
        replaced = [vars(layer).get("forward") for layer in skipped]
        try:
            for layer in skipped:
                layer.forward = lambda *_, **__: self.outputs[at]  # type: ignore[method-assign]
            if skipped:
                skipped[-1].forward = last  # type: ignore[method-assign]
            yield
        finally:
            for layer, forward in zip(skipped, replaced, strict=True):
                del layer.forward
                if forward is not None:  # somebody had put one there
                    layer.forward = forward


class Sensitivity:
    """How far a model's answers to some rows move when layers are rounded as a plan says.

    The quantization error is the task's divergence of the answers from the exact ones, e.g. KL in
    nats; the mean over the units that are read. Recipes and plans call it damage.

    Args:
        task: computes outputs and their divergence.
        model: in eval mode.
        rows: tokenized rows.
        isa: the width of weights.
        int4: the weights of the layers that a plan may have in int4.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        rows: Rows,
        isa: Isa,
        int4: Mapping[str, Blocks] | None = None,
    ) -> None:
        self.task, self.model = task, model
        self.isa, self.int4 = isa, int4 or {}
        self.embeddings: Embeddings = "float"
        self.batches = list(calibration_rows.batches(rows, "cpu", BATCH))
        self.exact = self._answers()

    def damage(self, layers: Mapping[str, LinearPlan]) -> float:
        """Return the damage when all these layers are rounded, and the tables to ``embeddings``."""
        with rounded_tables(self.model, self.embeddings):
            return self._damage(layers)

    def _damage(self, layers: Mapping[str, LinearPlan]) -> float:
        with quantized(self.model, layers, self.isa, self.int4):
            answers = self._answers()
        divergence = self.task.objective.divergence(self.exact, answers)
        read = ~self.exact.isnan().all(dim=-1)  # a word may be cut off: its divergence is 0
        return float(divergence.sum() / read.sum())

    def damages(self, layers: Mapping[str, LinearPlan], progress: Progress) -> dict[str, float]:
        """Return each layer's damage when it alone is rounded.

        Layers of the model before it, which it does not change, are not computed again.
        """
        alone: dict[str, float] = {}
        replay = Replay(self.model)
        for name, layer in layers.items():
            progress(len(alone), len(layers), f"trying {name} in {layer.precision}")
            replay.before(linear(self.model, name), self._answers)
            with replay.skipping():
                alone[name] = self._damage({name: layer})
        return alone

    @torch.no_grad()
    def _answers(self) -> torch.Tensor:
        """Return the raw outputs (units, width), in the order of the batches."""
        return torch.cat([self.task.head.outputs(self.model, batch) for batch in self.batches])


def rounded_weight(module: nn.Linear, layer: LinearPlan, isa: Isa) -> torch.Tensor:
    """Return a layer's weight times its factors, rounded to int8 and back: (outputs, inputs)."""
    weight = module.weight.data
    if layer.factors is not None:
        weight = weight * torch.tensor(layer.factors)
    return fake_quantize_weight(weight, isa)


def divided_inputs(values: torch.Tensor, layer: LinearPlan) -> torch.Tensor:
    """Return a layer's inputs over its factors, if it has some."""
    if layer.factors is None:
        return values
    return values / torch.tensor(layer.factors)


def rounded_inputs(values: torch.Tensor, layer: LinearPlan) -> torch.Tensor:
    """Return a layer's inputs over its factors, rounded to uint8 and back: (rows, …, inputs)."""
    values = divided_inputs(values, layer)
    if layer.low is not None and layer.high is not None:
        low, high = torch.tensor(layer.low), torch.tensor(layer.high)
        return fake_quantize(values, low, high)
    # Bundles run rows one by one, so each row has a range of its own.
    axes = tuple(range(1, values.dim()))
    low = values.amin(axes, keepdim=True)
    high = values.amax(axes, keepdim=True)
    return fake_quantize(values, low, high)


@contextlib.contextmanager
def rounded_tables(model: nn.Module, precision: Embeddings) -> Iterator[None]:
    """Round the embeddings as ``export`` does, inside a ``with`` block."""
    tables = []
    if precision != "float":
        tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    exact = [table.weight.data for table in tables]
    try:
        for table, weight in zip(tables, exact, strict=True):
            rounded = embeddings.rounded(weight.float().cpu().numpy(), precision)
            table.weight.data = torch.from_numpy(rounded).to(weight)
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
        reads_text = undo.enter_context(ranges.calls_with_text(model))
        for name, layer in layers.items():
            module = linear(model, name)
            weight = module.weight.data
            undo.callback(setattr, module.weight, "data", weight)
            if layer.precision == "int4":
                blocks = (int4 or {})[name]
                module.weight.data = torch.from_numpy(blocks.values()).to(weight)
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
