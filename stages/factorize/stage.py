"""Factorization: replace wide linear layers by products of two thin ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from rarefy.pipeline.model.architectures.families import Config
from rarefy.pipeline.stage import Context, Draft, Policy, Requirements, Stage
from rarefy.pipeline.store.artifact import Artifact, Kind
from rarefy.pipeline.terms.errors import ModelError
from rarefy.pipeline.terms.recipe_parts import Quantity
from rarefy.stages.training import run as training
from rarefy.stages.training.parameters import Training, cpu_has_bf16, refuse_unread
from rarefy.stages.transfer.files import TRANSFER


class Factorize(Stage):
    """Replace linear layers by two low-rank ones, with ranks chosen across all layers.

    Each weight is decomposed in the metric of its inputs and of the loss's gradients at its outputs
    on calibration rows (GFWSVD, Chekalina et al. 2025, arXiv 2505.17974), which truncates the
    directions that the loss needs least. All ranks share one budget of parameters, which is spent
    where it lowers the predicted loss most. A layer stays as it is if its best rank would save
    nothing. Nothing is trained unless ``recover_epochs`` is set: the new model then learns the
    predictions of the whole one (Hinton et al. 2015, arXiv 1503.02531).
    """

    name: ClassVar[str] = "factorize"
    version: ClassVar[int] = 4
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.CHECKPOINT})
    produces: ClassVar[Kind | None] = Kind.CHECKPOINT
    reads: ClassVar[frozenset[str]] = frozenset({"train", "dev", "unlabelled", "corpus"})
    libraries: ClassVar[tuple[str, ...]] = (*Stage.libraries, "accelerate")
    policy: ClassVar[Policy] = Policy(needs={TRANSFER: Kind.TRANSFER_SET})

    keep_weights: Annotated[Quantity, Field(gt=0, lt=1)] = Field(
        default=0.5, description="Share of the weights of the encoder's linear layers to keep"
    )
    calibration_rows: int = Field(
        default=512, ge=8, le=1_000_000, description="Number of training rows for calibration"
    )
    recover_epochs: int = Field(
        default=0, ge=0, le=1000, description="Number of epochs of recovery training"
    )
    transfer: str | None = Field(
        default=None,
        description="ID of an augment or label stage with more texts, for recovery",
    )
    learning_rate: float = Field(
        default=5e-5, gt=0, lt=1, description="Peak learning rate of recovery training"
    )

    @model_validator(mode="after")
    def _reads_what_is_given(self) -> Factorize:
        refuse_unread(self, ("learning_rate", "transfer"), "recover_epochs")
        return self

    def references(self) -> dict[str, str]:
        return {TRANSFER: self.transfer} if self.transfer else {}

    def environment(self, requirements: Requirements) -> dict[str, Any]:
        """Return whether the CPU has bfloat16, which changes how recovery training rounds."""
        return {"cpu_bf16": cpu_has_bf16()} if self.recover_epochs else {}

    def follow_model(self, config: Config, references: Mapping[str, Config], base: Path) -> Config:
        """Check that the model's layers are described."""
        from rarefy.pipeline.model.architectures import parts

        parts.named(config)
        return config

    def run(self, context: Context, model: Artifact) -> Draft:
        """Decompose the layers, choose ranks, replace the layers, train to recover, and save."""
        from rarefy.pipeline.model import checkpoint
        from rarefy.stages.factorize import thin
        from rarefy.stages.teachers import recovery

        training.prepare(context)
        network, tokenizer = training.open_network(context, model)
        layers = thin.decomposed(context, network, tokenizer, self.calibration_rows)
        try:
            chosen = thin.ranks_within(layers, self.keep_weights)
        except ModelError as error:
            raise ModelError(f"factorize.keep_weights: {error}") from error
        ranks = thin.replace(network, layers, chosen)
        metrics = thin.errors(layers, chosen)
        if self.recover_epochs:
            texts = context.artifacts[self.transfer] if self.transfer else None
            imitation = recovery.prepare(context, model, network, tokenizer, texts)
            knobs = Training(epochs=self.recover_epochs, learning_rate=self.learning_rate)
            metrics.append(recovery.train(context, knobs, network, tokenizer, imitation, 1))
        roles = checkpoint.save(network, tokenizer, context.output)
        return Draft(roles, checkpoint.describe(network) | {"ranks": ranks}, tuple(metrics))
