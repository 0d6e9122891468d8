"""A classifier without attention: the bag of a text's tokens and pairs of tokens, and a small head.

Static embeddings, learned from a teacher: model2vec (Tulkens & van Dongen 2024) without n-grams,
and Sparse Distillation (Ye et al. 2022, arXiv 2110.08536) with them. Mean and greatest value of the
embeddings are read side by side (SWEM-concat, Shen et al. 2018, arXiv 1805.09843). It is a model of
transformers like any other, so training, quantization, export and measurement need no special case.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput

from rarefy.pipeline.terms.recipe_parts import BAG_OF_TOKENS

LEAST = -1e4
"""What stands for padding where the greatest value is taken."""
PRIMES = (1_000_003, 8_191)
"""Factors of the hash of a pair of tokens: of a token's own id, and of the id before it."""


def remainders(vocabulary: int, buckets: int) -> Tensor:
    """Return each id times each of ``PRIMES``, modulo ``buckets``: vocabulary × 2, int32.

    A pair's hash is the sum of two of these, modulo ``buckets``. The products themselves are too
    large for runtimes that compute integers in less than 64 bits: OpenVINO keeps 32 bits of a
    product, and takes the remainder in fp32, which is exact below 2^24 only.
    """
    return (torch.arange(vocabulary)[:, None] * torch.tensor(PRIMES) % buckets).int()


class BagOfTokensConfig(PreTrainedConfig):  # type: ignore[misc]
    """``buckets``: embeddings of pairs of tokens, by their hash; 0 for none."""

    model_type = BAG_OF_TOKENS

    def __init__(
        self,
        vocab_size: int = 30522,
        hidden_size: int = 256,
        buckets: int = 0,
        intermediate_size: int = 256,
        pad_token_id: int = 0,
        **rest: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.buckets = buckets
        self.intermediate_size = intermediate_size
        super().__init__(**rest)
        self.pad_token_id = pad_token_id


class _BagOfTokens(PreTrainedModel):  # type: ignore[misc]
    config_class = BagOfTokensConfig
    base_model_prefix = "bag_of_tokens"

    def _init_weights(self, module: Any) -> None:
        if isinstance(module, nn.Embedding):
            module.weight.data.normal_(std=0.02)
        if isinstance(module, nn.Linear):
            module.weight.data.normal_(std=module.in_features**-0.5)
            if module.bias is not None:
                module.bias.data.zero_()
        if isinstance(module, BagOfTokensModel) and self.config.buckets:
            # from_pretrained builds the model without memory, so the buffer has no numbers then.
            sizes = (self.config.vocab_size, self.config.buckets)
            module.remainders.data.copy_(remainders(*sizes))


class BagOfTokensModel(_BagOfTokens):
    """The mean and the greatest value, in each dimension, of a text's embeddings."""

    def __init__(self, config: BagOfTokensConfig) -> None:
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        if config.buckets:
            self.pairs = nn.Embedding(config.buckets, config.hidden_size)
            expected = remainders(config.vocab_size, config.buckets)
            self.register_buffer("remainders", expected, persistent=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.embeddings = value

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any
    ) -> BaseModelOutput:
        """Return batch × 2·hidden as the last hidden state."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        tokens = self.embeddings(input_ids)
        shown = attention_mask[..., None].to(tokens.dtype)
        if self.config.buckets:
            tokens = tokens + self.pairs(self.hashed(input_ids))
        tokens = tokens * shown
        count = shown.sum(dim=1).clamp(min=1)
        mean = tokens.sum(dim=1) / count
        greatest = (tokens + (1 - shown) * LEAST).amax(dim=1)
        bag = torch.cat([mean, greatest], dim=-1)
        return BaseModelOutput(last_hidden_state=bag)

    def hashed(self, input_ids: Tensor) -> Tensor:
        """Return the bucket of each token with the one before it."""
        token, before = functional.embedding(input_ids, self.remainders).unbind(-1)
        return (token + functional.pad(before[:, :-1], (1, 0))) % self.config.buckets


class BagOfTokensForSequenceClassification(_BagOfTokens):
    """A hidden layer and the logits of a text's bag."""

    def __init__(self, config: BagOfTokensConfig) -> None:
        super().__init__(config)
        self.bag_of_tokens = BagOfTokensModel(config)
        self.dense = nn.Linear(2 * config.hidden_size, config.intermediate_size)
        self.classifier = nn.Linear(config.intermediate_size, config.num_labels)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.bag_of_tokens.embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.bag_of_tokens.embeddings = value

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any
    ) -> SequenceClassifierOutput:
        """Return logits: batch × labels."""
        bag = self.bag_of_tokens(input_ids, attention_mask).last_hidden_state
        return SequenceClassifierOutput(logits=self.classifier(self.dense(bag).relu()))


CLASSES = {each.__name__: each for each in (BagOfTokensModel, BagOfTokensForSequenceClassification)}

AutoConfig.register(BAG_OF_TOKENS, BagOfTokensConfig, exist_ok=True)
AutoModel.register(BagOfTokensConfig, BagOfTokensModel, exist_ok=True)
AutoModelForSequenceClassification.register(
    BagOfTokensConfig, BagOfTokensForSequenceClassification, exist_ok=True
)
