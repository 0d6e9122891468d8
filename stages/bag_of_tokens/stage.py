"""A bag of tokens: start a student without attention from its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from rarefy.pipeline.model.architectures.families import Config
from rarefy.pipeline.stage import Context, Draft, Requirements, Stage, StageCheck
from rarefy.pipeline.store.artifact import Artifact, Metric
from rarefy.pipeline.terms.errors import ModelError, RecipeError
from rarefy.pipeline.terms.recipe_parts import BAG_OF_TOKENS
from rarefy.stages.training import run as training
from rarefy.stages.training.parameters import cpu_has_bf16

SMOOTHING = 1e-3
"""a of SIF: a token of probability p has the weight a / (a + p)."""
ROWS = 20_000
"""Training rows, at most, in which a token's meaning is looked for."""


class BagOfTokens(Stage):
    """Start a student without attention from its teacher's token embeddings; distill trains it.

    The student is a small network over the mean and the maximum of the embeddings of all tokens
    and, with ``buckets``, of all pairs of neighbors (by their hash). A token's embedding starts as
    the mean of the teacher's last hidden states where it occurs in the training rows, or of the
    token alone if it does not (model2vec), reduced to ``width`` by principal components and
    weighted by how rare it is (SIF, Arora et al. 2017, "A simple but tough-to-beat baseline for
    sentence embeddings"). It is not trained yet: put distill after it, with the teacher's id, a
    transfer set, a learning rate of about 1e-3 and large batches. Pruning the vocabulary before
    makes it smaller.
    """

    name: ClassVar[str] = "bag_of_tokens"
    version: ClassVar[int] = 2
    reads: ClassVar[frozenset[str]] = frozenset({"train"})
    libraries: ClassVar[tuple[str, ...]] = (*Stage.libraries, "numpy")

    width: int = Field(
        default=256,
        ge=8,
        le=4096,
        description="Size of the embeddings; by default at most that of the teacher",
    )
    buckets: int = Field(
        default=32_768,
        ge=0,
        le=2**22,
        description="Number of embeddings of token pairs, by hash; 0 for none",
    )
    neurons: int = Field(
        default=256, ge=16, le=4096, description="Number of units in the hidden layer"
    )

    def environment(self, requirements: Requirements) -> dict[str, Any]:
        """Return whether the CPU has bfloat16, in which the teacher then reads."""
        return {"cpu_bf16": cpu_has_bf16()}

    def check(self, recipe: StageCheck) -> None:
        """Raise RecipeError if the task does not ask for one answer from a text's logits."""
        if recipe.task.objective.linear is None:
            raise RecipeError(f"bag_of_tokens: not supported for {recipe.task.name}")

    def follow_model(self, config: Config, references: Mapping[str, Config], base: Path) -> Config:
        """Return the student's config, in which no layers are described.

        Raises ModelError if ``width`` is more than the teacher's, or it is such a student already.
        """
        from rarefy.pipeline.model.architectures import parts

        if config.get("model_type") == BAG_OF_TOKENS:
            raise ModelError("bag_of_tokens: the model is a student without attention already")
        most = parts.width(config)
        is_set = self.width != type(self).model_fields["width"].default
        if is_set and most is not None and self.width > most:
            raise ModelError(
                f"bag_of_tokens.width: {self.width} is more than the teacher's, {most}"
            )
        return {"model_type": BAG_OF_TOKENS}

    def run(self, context: Context, model: Artifact) -> Draft:
        """Write the student; report how much of the embeddings' variance ``width`` keeps."""
        import torch

        from rarefy.pipeline.model import checkpoint
        from rarefy.pipeline.model.bag_of_tokens import (
            BagOfTokensConfig,
            BagOfTokensForSequenceClassification,
        )
        from rarefy.stages.bag_of_tokens import token_means

        training.prepare(context)
        network, tokenizer = training.open_network(context, model)
        rows = training.labelled_rows(context, tokenizer, context.split("train"))
        means, counts = token_means.token_means(context, network, tokenizer, rows, ROWS)
        table, variance = token_means.reduced(means, min(self.width, *means.shape))
        probability = counts / counts.sum()
        rarity = SMOOTHING / (SMOOTHING + probability)
        config = BagOfTokensConfig(
            vocab_size=len(means),
            hidden_size=table.shape[1],
            buckets=self.buckets,
            intermediate_size=self.neurons,
            pad_token_id=tokenizer.pad_token_id,
            id2label=network.config.id2label,
            label2id=network.config.label2id,
            problem_type=network.config.problem_type,
        )
        student = BagOfTokensForSequenceClassification(config)
        context.task.head.initialize(student, context.split("train"))
        with torch.no_grad():
            weighted = table * rarity[:, None]
            student.bag_of_tokens.embeddings.weight.copy_(weighted)
            if self.buckets:
                student.bag_of_tokens.pairs.weight.zero_()
        roles = checkpoint.save(student.eval(), tokenizer, context.output)
        metric = Metric(name="variance_kept", value=round(variance, 4))
        return Draft(roles, checkpoint.describe(student), (metric,))
