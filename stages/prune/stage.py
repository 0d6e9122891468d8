"""Pruning: remove layers, attention heads, feed-forward neurons and unused tokens physically."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from rarefy.pipeline.model.architectures.families import Config
from rarefy.pipeline.stage import Context, Draft, Policy, Stage, StageCheck
from rarefy.pipeline.store.artifact import Artifact, Kind, Metric
from rarefy.pipeline.terms.errors import ModelError, RecipeError
from rarefy.pipeline.terms.recipe_parts import BAG_OF_TOKENS, Quantity
from rarefy.stages.prune.importance import CRITERIA
from rarefy.stages.training.parameters import Training, cpu_has_bf16, refuse_unread
from rarefy.stages.transfer import files as transfer_set
from rarefy.stages.transfer.files import TRANSFER

if TYPE_CHECKING:
    from rarefy.pipeline.stage import Requirements
    from rarefy.stages.prune.layers import Removal
    from rarefy.stages.prune.speedup import Speedup
    from rarefy.stages.prune.units import Removed, Start
    from rarefy.stages.surgery.units import Unit

Share = Annotated[Quantity, Field(ge=0, le=0.95)]

TABLE = "table"
"""The role of the table of times among a stage's references."""
TARGETS = ("speedup", "remove_macs", "keep_parameters")
"""What a user may ask for instead of shares of the heads and neurons."""
UNITS = ("remove_heads", "remove_neurons", *TARGETS)
"""What removes heads and neurons."""


class Prune(Stage):
    """Physically remove layers, attention heads, feed-forward neurons and unused tokens.

    Heads and neurons are ranked across the whole model by the diagonal of the Fisher information of
    their masks (Kwon et al. 2022, arXiv 2204.09656). Within each layer, the choice is then refined
    with the layer's full Fisher block, and the weights that read the remaining units are solved by
    least squares to reproduce the layer's original output (ZipLM, Kurtic et al. 2023, arXiv
    2302.04089). Layers are removed one at a time, always the one whose
    removal changes the predictions least. Nothing is trained unless ``recover_epochs`` is set: the
    pruned model then learns the predictions of the unpruned one (Hinton et al. 2015, arXiv
    1503.02531) for the rows of train, data.unlabelled and a transfer set, or the stored ones of the
    transfer set. With ``rounds``, all are removed in steps with recovery in between, ranked again
    in each, because a model recovers better from several small steps (CoFi, Xia et al. 2022, arXiv
    2204.00408, prunes while it distills). With ``keep_parameters`` or ``speedup``, layers are
    removed at once, because the target is checked before anything is trained.
    """

    name: ClassVar[str] = "prune"
    version: ClassVar[int] = 11
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.CHECKPOINT})
    produces: ClassVar[Kind | None] = Kind.CHECKPOINT
    reads: ClassVar[frozenset[str]] = frozenset({"train", "dev", "unlabelled", "corpus"})
    libraries: ClassVar[tuple[str, ...]] = (*Stage.libraries, "accelerate", "numpy")
    policy: ClassVar[Policy] = Policy(needs={TABLE: Kind.REPORT, TRANSFER: Kind.TRANSFER_SET})

    remove_heads: Share = Field(default=0.0, description="Share of the attention heads to remove")
    remove_neurons: Share = Field(
        default=0.0, description="Share of the feed-forward neurons to remove"
    )
    remove_layers: Share | tuple[int, ...] = Field(
        default=0.0, description="Share of the layers to remove, or the indices of layers to remove"
    )
    remove_macs: Share = Field(
        default=0.0,
        description="Instead of shares: share of the layers' multiply-adds to remove",
    )
    keep_parameters: int | None = Field(
        default=None,
        ge=1,
        description="Instead of shares: maximum number of parameters, embeddings included; in "
        "int8, each takes about a byte",
    )
    speedup: Annotated[Quantity, Field(gt=1, le=1000)] | None = Field(
        default=None,
        description="Instead of shares: speed-up over the input, in int8; layers are removed "
        "only if heads and neurons are not enough",
    )
    table: str | None = Field(
        default=None, description="ID of the profile stage that `speedup` reads"
    )
    vocabulary: bool = Field(
        default=False, description="Whether to remove tokens that no training text uses"
    )
    min_count: int = Field(
        default=1,
        ge=1,
        description="Minimum number of occurrences of a token that `vocabulary` keeps; rarer "
        "tokens are spelled with others",
    )
    method: Literal[*CRITERIA] = Field(  # type: ignore[valid-type]
        default="fisher", description="Criterion that ranks heads and neurons"
    )
    repair: bool = Field(
        default=True,
        description="Whether to solve the weights that read the remaining units by least squares",
    )
    calibration_rows: int = Field(
        default=2048, ge=8, le=1_000_000, description="Number of training rows for calibration"
    )
    recover_epochs: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="Number of epochs of recovery training after each round",
    )
    rounds: int = Field(
        default=1,
        ge=1,
        le=100,
        description="Number of rounds in which layers, heads and neurons are pruned, with "
        "recovery in between",
    )
    transfer: str | None = Field(
        default=None,
        description="ID of an augment or label stage with more texts, for recovery and vocabulary",
    )
    learning_rate: float = Field(
        default=5e-5, gt=0, lt=1, description="Peak learning rate of recovery training"
    )

    @model_validator(mode="after")
    def _removes_something(self) -> Prune:
        if not (self._units or self.remove_layers or self.vocabulary):
            raise ValueError(
                "nothing to remove: give 'remove_heads', 'remove_neurons', 'remove_layers', "
                "'remove_macs', 'keep_parameters', 'speedup' or 'vocabulary'"
            )
        if self.min_count > 1 and not self.vocabulary:
            raise ValueError("'min_count' needs 'vocabulary: true'")
        targets = [name for name in TARGETS if getattr(self, name)]
        if targets and (self.remove_heads or self.remove_neurons):
            raise ValueError(f"{targets[0]!r} chooses how many heads and neurons to remove")
        if len(targets) > 1:
            raise ValueError(f"give either {targets[0]!r} or {targets[1]!r}, not both")
        if self.rounds > 1 and not self.recover_epochs:
            raise ValueError("'rounds' are for recovery: give 'recover_epochs'")
        if self.rounds > 1 and not (self._units or self.remove_layers):
            raise ValueError("'rounds' apply to layers, heads and neurons, not to 'vocabulary'")
        if self.transfer and not (self.recover_epochs or self.vocabulary):
            raise ValueError("'transfer' is for 'recover_epochs' and 'vocabulary': give either")
        if (self.speedup is None) != (self.table is None):
            raise ValueError("'speedup' and 'table', the id of a profile stage, go together")
        refuse_unread(self, ("method", "repair", "calibration_rows"), *UNITS)
        refuse_unread(self, ("learning_rate",), "recover_epochs")
        return self

    @property
    def _units(self) -> bool:
        return any(getattr(self, name) for name in UNITS)

    def references(self) -> dict[str, str]:
        named = {TABLE: self.table, TRANSFER: self.transfer}
        return {role: name for role, name in named.items() if name}

    def check(self, recipe: StageCheck) -> None:
        """Raise RecipeError if the table has times of other models than a speed-up is of.

        Also if a transfer set has no texts whose tokens could stay, and nothing learns its answers.
        """
        if not self.recover_epochs:
            transfer_set.check_texts(recipe.stages, self.transfer)
        profile = recipe.stages.get(self.table or "")
        if getattr(profile, "precision", "int8") != "int8":
            raise RecipeError(
                f"table: {self.table!r} times float models, but a speed-up is measured in int8; "
                "leave out its 'precision'"
            )

    def environment(self, requirements: Requirements) -> dict[str, Any]:
        """Return whether the CPU has bfloat16, which changes how recovery training rounds."""
        return {"cpu_bf16": cpu_has_bf16()} if self.recover_epochs else {}

    def _recovery(self) -> Training:
        return Training(epochs=self.recover_epochs, learning_rate=self.learning_rate)

    def follow_model(self, config: Config, references: Mapping[str, Config], base: Path) -> Config:
        """Check that the model has the parts that are removed; return its config afterwards."""
        from rarefy.pipeline.model.architectures import parts

        if self.vocabulary and config.get("model_type") == BAG_OF_TOKENS:
            raise ModelError(
                "prune.vocabulary: pairs of tokens are hashed by token IDs, which would change; "
                "put it before 'bag_of_tokens'"
            )
        if not (self._units or self.remove_layers):
            return config
        try:
            parts.named(config)
        except ModelError as error:
            raise ModelError(f"{error}; only 'vocabulary' can be pruned") from error
        if self.remove_heads:
            parts.check_heads(config)
        if self.remove_heads or any(getattr(self, name) for name in TARGETS):
            config = parts.of_unknown_heads(config)
        depth = parts.depth(config)
        if not self.remove_layers or depth is None:
            return parts.of_unknown_depth(config) if self.speedup else config
        kept = self._kept_layers(depth)
        if kept is None:
            return parts.shortened(config, depth - self._count_gone(depth))
        parts.check_layers(config, kept)
        return parts.shortened(config, len(kept))

    def _count_gone(self, depth: int) -> int:
        """Return how many of ``depth`` layers to remove.

        Raises ModelError if none would remain, or if a share is less than half a layer.
        """
        asked = self.remove_layers
        gone = len(set(asked)) if isinstance(asked, tuple) else asked * depth
        if round(gone) >= depth:
            raise ModelError(
                f"prune.remove_layers: this would remove all {depth} layers; keep at least one"
            )
        if not round(gone):
            raise ModelError(
                f"prune.remove_layers: {100 * gone / depth:.3g}% of {depth} layers rounds to none; "
                f"one layer is {math.ceil(100 / depth)}%"
            )
        return round(gone)

    def _kept_layers(self, depth: int) -> list[int] | None:
        """Return the layers that the indices in ``remove_layers`` leave; None if it is a share.

        Raises ModelError if the model has no such layer or would keep none.
        """
        if not isinstance(self.remove_layers, tuple):
            return None
        wrong = [layer for layer in self.remove_layers if not 0 <= layer < depth]
        if wrong:
            raise ModelError(
                f"prune.remove_layers: no layer {wrong[0]}; the model has layers 0 to {depth - 1}"
            )
        self._count_gone(depth)
        return [layer for layer in range(depth) if layer not in self.remove_layers]

    def run(self, context: Context, model: Artifact) -> Draft:
        """Remove tokens; in rounds, layers, then heads and neurons, and train to recover; save."""
        from rarefy.pipeline.model import checkpoint
        from rarefy.stages.prune import units as unit_search
        from rarefy.stages.teachers import recovery
        from rarefy.stages.training import calibration_rows as calibration
        from rarefy.stages.training import run as training

        training.prepare(context)
        network, tokenizer = training.open_network(context, model)
        before = checkpoint.describe(network)["parameters"]
        metrics: list[Metric] = []
        if self.vocabulary:
            tokenizer = self._prune_vocabulary(context, network, tokenizer, metrics)
        origin = copy.deepcopy(network) if self.speedup else None
        network.to(context.device)
        rows = calibration.sample(context, tokenizer, self.calibration_rows)
        removal = self._removal(context, network, tokenizer)
        if removal and (self.rounds == 1 or self.keep_parameters or self.speedup):
            removal.step(1)
        speedup = self._speedup(context, origin, network, tokenizer)
        if speedup:
            speedup.reach(layers_too=not self.remove_layers)
        start, macs = None, 0.0
        if self._units:
            start = unit_search.measured(network)
            macs = unit_search.share(self.remove_macs, self.keep_parameters, network, start)
        imitation = None
        if self.recover_epochs:
            texts = self._transfer(context)
            imitation = recovery.prepare(context, model, network, tokenizer, texts)
        small = bool(self.keep_parameters) and not macs  # few enough already: nothing goes in steps
        rounds = self._count_rounds(removal)
        for number in range(1, 2 if small else rounds + 1):
            network.to(context.device)
            if removal:
                layers = removal.step(number / rounds)
                start = start.select(layers) if start else None
            if start and not small:
                removed = self._removed(speedup, macs, number, start)
                metrics += unit_search.remove(context, network, rows, removed)
            network.cpu()
            if imitation is not None:
                knobs = self._recovery()
                loss = recovery.train(context, knobs, network, tokenizer, imitation, number)
                metrics.append(loss)
        roles = checkpoint.save(network, tokenizer, context.output)
        facts = checkpoint.describe(network)
        share = round(1 - facts["parameters"] / before, 6)
        metrics.append(Metric(name="parameters_removed", value=share))
        return Draft(roles, facts, tuple(metrics))

    def _count_rounds(self, removal: Removal | None) -> int:
        """Return the number of rounds, of which each removes a layer at least if only layers go."""
        if self._units:
            return self.rounds
        layers = removal.count if removal else 1
        return max(1, min(self.rounds, layers))

    def _prune_vocabulary(
        self, context: Context, network: Any, tokenizer: Any, metrics: list[Metric]
    ) -> Any:
        """Shrink the embeddings in place; return the smaller tokenizer."""
        from rarefy.stages.surgery import vocabulary

        splits = transfer_set.learned(context, self._transfer(context))
        smaller, unseen = vocabulary.prune(network, tokenizer, splits, self.min_count)
        metrics.append(unseen)
        return smaller

    def _transfer(self, context: Context) -> Artifact | None:
        return context.artifacts[self.transfer] if self.transfer else None

    def _removal(self, context: Context, network: Any, tokenizer: Any) -> Removal | None:
        """Return the layers that go, or None if none does."""
        from rarefy.pipeline.model import checkpoint
        from rarefy.stages.prune import layers as layer_search
        from rarefy.stages.training import calibration_rows as calibration

        if not self.remove_layers:
            return None
        whole = list(range(len(checkpoint.encoder_layers(network))))
        retained, count = self._kept_layers(len(whole)), self._count_gone(len(whole))
        candidates = [layer for layer in whole if retained is None or layer not in retained]
        rows = calibration.sample(context, tokenizer, layer_search.ROWS, "dev")
        return layer_search.Removal(context, network, rows, candidates, count, whole)

    def _speedup(
        self, context: Context, origin: Any, network: Any, tokenizer: Any
    ) -> Speedup | None:
        from rarefy.stages.prune.speedup import Speedup

        if self.speedup is None:
            return None
        table = context.artifacts[str(self.table)].directory
        return Speedup(context, origin, network, tokenizer, table, self.speedup)

    def _removed(self, speedup: Speedup | None, macs: float, number: int, start: Start) -> Removed:
        from rarefy.stages.prune.units import Removed

        shares: dict[Unit, float] = {"heads": self.remove_heads, "neurons": self.remove_neurons}
        return Removed(shares, macs, speedup, self.method, self.repair, self.rounds, number, start)
