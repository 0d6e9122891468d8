"""Factorization: wide linear layers as products of two thin ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from pipeline.stage import Context, Draft, Stage
from pipeline.stage.resources import PROCESS, Resources, Workload, upto, weights
from pipeline.store.artifact import Artifact, Kind, Metric
from pipeline.terms.errors import ModelError
from pipeline.terms.quantity import Quantity
from stages import footprint, training
from stages.parameters import CALIBRATION_BATCH

if TYPE_CHECKING:
    from torch import Tensor

    from stages.svd import Decomposition

RANKS = 16
"""Ranks are multiples of this: int8 kernels work on tiles of 16 and pad what is left over."""


class Factorize(Stage):
    """Replace linear layers by products of two thin ones, of ranks chosen over all layers.

    Each weight is decomposed in the metric of its inputs on calibration rows (SVD-LLM, Wang et
    al. 2024, arXiv 2403.07378), so that what is cut is what changes the layer's output least. The
    ranks share one budget: they go where a parameter saves the most loss, estimated by the
    squared output error times the loss's mean squared gradient at that output. A layer whose best
    rank would save nothing stays as it is.
    """

    name: ClassVar[str] = "factorize"
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.CHECKPOINT})
    produces: ClassVar[Kind | None] = Kind.CHECKPOINT

    ratio: Annotated[Quantity, Field(gt=0, lt=1)] = Field(
        0.5, description="share of the parameters of the encoder's linear layers to keep"
    )
    calibration_rows: int = Field(512, ge=8, le=1_000_000)

    def resources(self, work: Workload) -> Resources:
        """Return what the decompositions of all linear layers need; all of them are held at once.

        In fp64, a layer of the encoder: second moments of the inputs, 5·h² + i² (query, key,
        value, output and up read h numbers, down i), and left and right singular vectors, 10·h² +
        2·h·i. Before, activations of a batch on the way back. Disk: the output.
        """
        shape, h, i = work.shape, work.shape.hidden, work.shape.intermediate
        moments = 8 * shape.layers * (5 * h * h + i * i)
        vectors = 8 * shape.layers * (10 * h * h + 2 * h * i)
        small = shape.shrunk((1 - self.ratio) * shape.linear)
        step = footprint.activations(shape, CALIBRATION_BATCH, work.longest_of(self.reads))
        memory = weights(shape) + footprint.tokenized(work, self.reads)
        return Resources(
            disk=weights(small),
            memory=PROCESS + memory + (step | upto(vectors)) + upto(moments),
            shape=small,
            effort=min(self.calibration_rows, work.rows_of(self.reads)) * shape.body,
        )

    def run(self, context: Context, model: Artifact) -> Draft:
        """Measure the inputs, decompose, choose ranks, replace, save."""
        from pipeline.model import checkpoint
        from stages import calibration

        training.prepare(context)
        network, tokenizer = training.open_network(context, model)
        layers = eligible(network)
        if not layers:
            raise ModelError("factorize: every linear layer of the encoder is factorized already")
        network.to(context.device)
        rows = calibration.sample(context, tokenizer, self.calibration_rows)
        batches = list(calibration.batches(rows, context.device))
        note = lambda done, total: context.progress(done, total, "inputs")  # noqa: E731
        moments, weights = measure(network, layers, batches, note)
        network.cpu()
        ranks, errors = self._replace(context, network, layers, moments, weights)
        roles = checkpoint.save(network, tokenizer, context.output)
        metrics = [Metric(name="factorized_layers", value=len(ranks), n=len(layers))]
        if errors:
            mean = round(sum(errors.values()) / len(errors), 6)
            worst = round(max(errors.values()), 6)
            metrics += [
                Metric(name="relative_error_mean", split="train", value=mean, n=len(rows)),
                Metric(name="relative_error_worst", split="train", value=worst, n=len(rows)),
            ]
        return Draft(roles, checkpoint.describe(network) | {"ranks": ranks}, tuple(metrics))

    def _replace(
        self,
        context: Context,
        network: Any,
        layers: dict[str, Any],
        moments: list[Tensor],
        weights: list[float],
    ) -> tuple[dict[str, int], dict[str, float]]:
        """Put thin layers in place. Returns rank and relative output error of each by name."""
        from stages import svd

        decompositions: list[Decomposition] = []
        for linear, moment in zip(layers.values(), moments, strict=True):
            decompositions.append(svd.decompose(linear.weight.detach(), moment.cpu()))
            context.progress(len(decompositions), len(layers), "decomposition")
        budget = int(self.ratio * sum(linear.weight.numel() for linear in layers.values()))
        chosen = svd.choose_ranks(decompositions, weights, budget, multiple=RANKS)
        ranks, errors = {}, {}
        for name, layer, rank in zip(layers, decompositions, chosen, strict=True):
            if rank is not None:
                network.set_submodule(name, thin(layers[name], layer, rank))
                ranks[name] = rank
                errors[name] = layer.relative_error(rank)
        return ranks, errors


def eligible(network: Any) -> dict[str, Any]:
    """Return the encoder's linear layers by their name in the model; thin ones are left out."""
    from torch import nn

    from pipeline.model import checkpoint

    inside = {module for layer in checkpoint.encoder_layers(network) for module in layer.modules()}
    thin_parts = {
        child for module in inside if hasattr(module, "down") for child in module.children()
    }
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and module in inside and module not in thin_parts
    }


def measure(
    network: Any,
    layers: dict[str, Any],
    batches: list[dict[str, Tensor]],
    progress: Callable[[int, int], None],
) -> tuple[list[Tensor], list[float]]:
    """Return each layer's Σ x·xᵀ over all tokens, and its outputs' mean squared gradient.

    The gradient is of each row's own cross-entropy, as in the empirical Fisher information: it
    says what a small error of the output costs.
    """
    import torch
    from torch.nn import functional

    from stages.calibration import without_labels

    moments: dict[Any, Tensor] = {}
    squares = dict.fromkeys(layers.values(), 0.0)
    outputs: list[tuple[Any, Tensor]] = []

    def see(linear: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        # In float64: the Cholesky factor of a float32 sum of some thousand tokens may not exist.
        tokens = inputs[0].detach().flatten(0, -2).double()
        moment = tokens.T @ tokens
        moments[linear] = moments[linear].add_(moment) if linear in moments else moment
        outputs.append((linear, output))

    handles = [linear.register_forward_hook(see) for linear in layers.values()]
    try:
        for done, batch in enumerate(batches):
            logits = network(**without_labels(batch)).logits
            loss = functional.cross_entropy(logits, batch["labels"], reduction="sum")
            gradients = torch.autograd.grad(loss, [output for _, output in outputs])
            for (linear, _), gradient in zip(outputs, gradients, strict=True):
                squares[linear] += float(gradient.square().mean(-1).sum())
            outputs.clear()
            progress(done + 1, len(batches))
    finally:
        for handle in handles:
            handle.remove()
    return [moments[linear] for linear in layers.values()], list(squares.values())


def thin(linear: Any, layer: Decomposition, rank: int) -> Any:
    """Return the two thin layers that stand for ``linear`` at a rank."""
    import torch

    from pipeline.model import checkpoint

    outputs, inputs = layer.shape
    down, up = layer.factors(rank)
    pair = checkpoint.factorized(inputs, rank, outputs, bias=linear.bias is not None)
    with torch.no_grad():
        pair.down.weight.copy_(down)
        pair.up.weight.copy_(up)
        if linear.bias is not None:
            pair.up.bias.copy_(linear.bias)
    return pair
