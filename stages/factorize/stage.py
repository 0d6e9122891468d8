"""Factorization: replace wide linear layers by products of two thin ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, model_validator

from rarefy.pipeline.model.architectures.description import Config
from rarefy.pipeline.stage import Context, Draft, Stage
from rarefy.pipeline.store.artifact import Artifact, Kind, Metric
from rarefy.pipeline.terms.errors import ModelError
from rarefy.pipeline.terms.quantity import Quantity
from rarefy.pipeline.terms.recipe_parts import THIN
from rarefy.stages.training import run as training
from rarefy.stages.training.parameters import Loss, refuse_unread

if TYPE_CHECKING:
    from torch import Tensor

    from rarefy.stages.factorize.svd import Decomposition

RANKS = 16
"""Ranks are multiples of this, because int8 kernels work on tiles of 16 and pad the rest."""


class Factorize(Stage):
    """Replace linear layers by two low-rank ones, with ranks chosen across all layers.

    Each weight is decomposed in the metric of its inputs on calibration rows (SVD-LLM, Wang et
    al. 2024, arXiv 2403.07378), which truncates the directions that change the layer's output
    least. All ranks share one parameter budget. It is spent where a parameter lowers the loss
    most, estimated as the squared output error times the mean squared gradient of the loss at
    that output. A layer stays as it is if its best rank would save nothing.

    ``embeddings`` makes the table of tokens narrow (ALBERT, Lan et al. 2020, arXiv 1909.11942), in
    the metric of how often each token occurs in the training rows. Prune the vocabulary before, and
    distill afterwards.
    """

    name: ClassVar[str] = "factorize"
    version: ClassVar[int] = 2
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.CHECKPOINT})
    produces: ClassVar[Kind | None] = Kind.CHECKPOINT

    keep_weights: Annotated[Quantity, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Share of the weights of the encoder's linear layers to keep; default: "
        "half of them, or all with embeddings",
    )
    embeddings: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Rank of the token embeddings, which are often most of the bytes",
    )
    calibration_rows: int = Field(
        default=512, ge=8, le=1_000_000, description="Number of training rows for calibration"
    )

    @model_validator(mode="after")
    def _measures_what_it_replaces(self) -> Factorize:
        if self._share == 1:
            refuse_unread(self, ("calibration_rows",), "keep_weights")
        return self

    @property
    def _share(self) -> float:
        """The share of the linear layers' weights to keep."""
        return self.keep_weights or (0.5 if self.embeddings is None else 1.0)

    def follow_model(self, config: Config, references: Mapping[str, Config], base: Path) -> Config:
        """Check that the model's layers are described, and its embeddings whole and wider."""
        from rarefy.pipeline.model.architectures import parts

        if self._share < 1:
            parts.named(config)
        if self.embeddings is None:
            return config
        if config.get(THIN):
            raise ModelError("factorize.embeddings: they are factorized already")
        width = config.get("embedding_size") or parts.width(config)
        if width and self.embeddings >= width:
            raise ModelError(
                f"factorize.embeddings: a rank of {self.embeddings} saves nothing, they have "
                f"{width} columns"
            )
        return {**config, THIN: True}

    def run(self, context: Context, model: Artifact) -> Draft:
        """Measure the inputs, decompose the layers, choose ranks, replace the layers, and save."""
        from rarefy.pipeline.model import checkpoint

        training.prepare(context)
        network, tokenizer = training.open_network(context, model)
        metrics: list[Metric] = []
        facts: dict[str, Any] = {}
        if self.embeddings is not None:
            metrics.append(self._thin_embeddings(context, network, tokenizer, self.embeddings))
        if self._share < 1:
            facts["ranks"] = self._thin_layers(context, network, tokenizer, metrics)
        roles = checkpoint.save(network, tokenizer, context.output)
        return Draft(roles, checkpoint.describe(network) | facts, tuple(metrics))

    def _thin_embeddings(self, context: Context, network: Any, tokenizer: Any, rank: int) -> Metric:
        """Make the token embeddings narrow in place; return the relative error by occurrence."""
        import torch

        from rarefy.pipeline.model.architectures.thin_embedding import ThinEmbedding
        from rarefy.stages.factorize import svd
        from rarefy.stages.surgery import vocabulary

        whole = network.get_input_embeddings()
        if isinstance(whole, ThinEmbedding):
            raise ModelError("factorize.embeddings: they are factorized already")
        if type(whole).forward is not torch.nn.Embedding.forward:
            raise ModelError(
                f"factorize.embeddings: a {type(whole).__name__} does more than look up rows"
            )
        count, hidden = whole.weight.shape
        if rank >= hidden:
            raise ModelError(
                f"factorize.embeddings: a rank of {rank} saves nothing, they have {hidden} columns"
            )
        train = context.split("train")
        seen = vocabulary.count_tokens(tokenizer, vocabulary.texts_of(train))
        bare = tokenizer.backend_tokenizer.encode("", None if train.pairs is None else "")
        for token in bare.ids:  # special tokens, which stand in every row
            seen[token] += len(train)
        often = torch.tensor([1.0 + seen[token] for token in range(count)])
        table, up, error = svd.thin_rows(whole.weight.detach(), often, rank)
        thinned = ThinEmbedding(count, rank, hidden, whole.padding_idx)
        with torch.no_grad():
            thinned.table.weight.copy_(table)
            thinned.up.weight.copy_(up)
        network.set_input_embeddings(thinned)
        return Metric(name="embeddings_error", split="train", value=round(error, 6))

    def _thin_layers(
        self, context: Context, network: Any, tokenizer: Any, metrics: list[Metric]
    ) -> dict[str, int]:
        """Replace linear layers in place; return each one's rank by name."""
        from rarefy.stages.training import calibration_rows as calibration

        layers = eligible(network)
        if not layers:
            raise ModelError("factorize: all linear layers of the encoder are factorized already")
        network.to(context.device)
        rows = calibration.sample(context, tokenizer, self.calibration_rows)
        batches = list(calibration.batches(rows, context.device))
        note = lambda done, total: context.progress(done, total, "inputs")  # noqa: E731
        loss = context.task.objective.summed_loss()
        moments, weights = measure(network, layers, batches, loss, note)
        network.cpu()
        ranks, errors = self._replace(context, network, layers, moments, weights)
        metrics.append(Metric(name="factorized_layers", value=len(ranks), n=len(layers)))
        if errors:
            mean = round(sum(errors.values()) / len(errors), 6)
            worst = round(max(errors.values()), 6)
            for kind, value in (("mean", mean), ("worst", worst)):
                name = f"relative_error_{kind}"
                metrics.append(Metric(name=name, split="train", value=value, n=len(rows)))
        return ranks

    def _replace(
        self,
        context: Context,
        network: Any,
        layers: dict[str, Any],
        moments: list[Tensor],
        weights: list[float],
    ) -> tuple[dict[str, int], dict[str, float]]:
        """Replace layers by thin ones; return each one's rank and relative output error by name."""
        from rarefy.stages.factorize import svd

        decompositions: list[Decomposition] = []
        for linear, moment in zip(layers.values(), moments, strict=True):
            decompositions.append(svd.decompose(linear.weight.detach(), moment.cpu()))
            context.progress(len(decompositions), len(layers), "decomposition")
        budget = int(self._share * sum(linear.weight.numel() for linear in layers.values()))
        chosen = svd.choose_ranks(decompositions, weights, budget, multiple=RANKS)
        ranks, errors = {}, {}
        for name, layer, rank in zip(layers, decompositions, chosen, strict=True):
            if rank is not None:
                network.set_submodule(name, thin(layers[name], layer, rank))
                ranks[name] = rank
                errors[name] = layer.relative_error(rank)
        return ranks, errors


def eligible(network: Any) -> dict[str, Any]:
    """Return the encoder's linear layers by name, without layers that are factorized already."""
    from torch import nn

    from rarefy.pipeline.model import checkpoint

    candidates = set()
    for layer in checkpoint.encoder_layers(network):
        candidates.update(layer.modules())
    for module in list(candidates):
        if hasattr(module, "down"):
            candidates.difference_update(module.children())
    layers = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and module in candidates:
            layers[name] = module
    return layers


def measure(
    network: Any,
    layers: dict[str, Any],
    batches: list[dict[str, Tensor]],
    loss: Loss,
    progress: Callable[[int, int], None],
) -> tuple[list[Tensor], list[float]]:
    """Return each layer's Σ x·xᵀ over all tokens, and the mean squared gradient at its output.

    The gradient is that of each row's own loss, as in the empirical Fisher information. It
    estimates what a small error in the output costs.

    Args:
        network: in eval mode.
        layers: its linear layers, by name.
        batches: unpadded rows with labels.
        loss: the loss, summed over the rows of a batch.
        progress: called with the number of batches done and the total.

    Returns:
        For each layer, the second moments (inputs, inputs) of its inputs in float64, and the sum
        over tokens of the mean squared gradient.
    """
    import torch

    moments: dict[Any, Tensor] = {}
    squares = dict.fromkeys(layers.values(), 0.0)
    outputs: list[tuple[Any, Tensor]] = []

    def see(linear: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        # float64, because a float32 sum over thousands of tokens may have no Cholesky factor.
        tokens = inputs[0].detach().flatten(0, -2).double()
        moment = tokens.T @ tokens
        if linear in moments:
            moment = moments[linear].add_(moment)
        moments[linear] = moment
        outputs.append((linear, output))
        return output.clone()  # DeBERTa scales a projection in place, which hides its gradient

    handles = [linear.register_forward_hook(see) for linear in layers.values()]
    try:
        for done, batch in enumerate(batches):
            total = loss(network, batch)
            tensors = [output for _, output in outputs]
            # DeBERTa may compute a projection that it does not use.
            gradients = torch.autograd.grad(total, tensors, allow_unused=True)
            for (linear, _), gradient in zip(outputs, gradients, strict=True):
                if gradient is not None:
                    by_token = gradient.square().mean(-1)
                    squares[linear] += float(by_token.sum())
            outputs.clear()
            progress(done + 1, len(batches))
    finally:
        for handle in handles:
            handle.remove()
    return [moments[linear] for linear in layers.values()], list(squares.values())


def thin(linear: Any, layer: Decomposition, rank: int) -> Any:
    """Return the two thin layers that replace ``linear`` at ``rank``."""
    import torch

    from rarefy.pipeline.model import checkpoint

    outputs, inputs = layer.shape
    down, up = layer.factors(rank)
    pair = checkpoint.factorized(inputs, rank, outputs, bias=linear.bias is not None)
    with torch.no_grad():
        pair.down.weight.copy_(down)
        pair.up.weight.copy_(up)
        if linear.bias is not None:
            pair.up.bias.copy_(linear.bias)
    return pair
