"""What a teacher makes of each token, and its principal components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rarefy.pipeline.model.architectures import parts
from rarefy.pipeline.model.batches import order_by_length
from rarefy.pipeline.stage import Context
from rarefy.pipeline.tasks.task import inputs_of
from rarefy.stages.training.loop import collate, use_bf16
from rarefy.stages.training.parameters import TEACHER_BATCH, Row
from rarefy.stages.training.rows import lengths


def token_means(
    context: Context, network: Any, tokenizer: Any, rows: Sequence[Row], most: int
) -> tuple[Tensor, Tensor]:
    """Return the mean last hidden state of each token, and how often each token occurs.

    A token that occurs in no row that is read is read alone.

    Args:
        context: the run's context.
        network: the teacher.
        tokenizer: its tokenizer.
        rows: tokenized rows.
        most: how many of them to read at most.

    Returns:
        The means (vocabulary, hidden) and the counts (vocabulary,).
    """
    size = network.get_input_embeddings().num_embeddings
    reader = _Reader(context, network, tokenizer, size)
    draw = np.random.default_rng(context.seed)
    chosen = draw.permutation(len(rows))[:most]
    sizes = lengths(rows)[chosen]
    order = chosen[order_by_length(sizes.tolist())]
    for start in range(0, len(order), TEACHER_BATCH):
        places = order[start : start + TEACHER_BATCH]
        batch = [rows[place] for place in places]
        reader.read(batch, slice(None))
        context.progress(start, len(order), "tokens in the training rows")
    occurrences = reader.counts.clone()
    unseen = [token for token in range(size) if not occurrences[token]]
    first = len(tokenizer("")["input_ids"][:1])
    place = slice(first, first + 1)
    for start in range(0, len(unseen), 8 * TEACHER_BATCH):
        tokens = unseen[start : start + 8 * TEACHER_BATCH]
        batch = [_alone(tokenizer, token) for token in tokens]
        reader.read(batch, place)
        context.progress(start, len(unseen), "tokens alone")
    network.cpu()
    divisors = reader.counts.clamp(min=1)
    means = reader.total / divisors[:, None]
    return means, occurrences


class _Reader:
    """Sums a teacher's last hidden states by token.

    ``total``   (vocabulary, hidden), the sums
    ``counts``  (vocabulary,), how many states are in each
    """

    def __init__(self, context: Context, network: Any, tokenizer: Any, size: int) -> None:
        self.device = context.device
        self.tokenizer = tokenizer
        self.body = parts.body(network).to(self.device).eval()
        self.bf16 = use_bf16(self.device, network)
        self.total = torch.zeros(size, parts.width(network.config) or 0)
        self.counts = torch.zeros(size)

    def read(self, batch: Sequence[Row], place: slice) -> None:
        """Add the states of the tokens at some places of each row."""
        tensors = collate(batch, self.tokenizer)
        for key, values in tensors.items():
            tensors[key] = values.to(self.device)
        rounding = torch.autocast(self.device, torch.bfloat16, enabled=self.bf16)
        with torch.inference_mode(), rounding:
            states = self.body(**inputs_of(tensors)).last_hidden_state
            states = states.float().cpu()
        mask = tensors["attention_mask"][:, place]
        present = mask.cpu().bool()
        ids = tensors["input_ids"][:, place]
        ids = ids.cpu()[present]
        self.total.index_add_(0, ids, states[:, place][present])
        self.counts.index_add_(0, ids, torch.ones(len(ids)))


def reduced(means: Tensor, width: int) -> tuple[Tensor, float]:
    """Return the principal components of rows, of unit variance on average, and the share retained.

    Args:
        means: (rows, columns).
        width: the number of components.

    Returns:
        The components (rows, width), and the share of the variance that they have.
    """
    centred = means - means.mean(dim=0)
    products = (centred.T @ centred).double()
    values, vectors = torch.linalg.eigh(products / len(means))
    retained = values[-width:].sum()
    share = retained / values.sum()
    largest = vectors[:, -width:].flip(1)
    table = centred @ largest.float()
    return table / table.std(), float(share)


def _alone(tokenizer: Any, token: int) -> Row:
    """Return the row of one token."""
    ids = list(tokenizer("")["input_ids"])
    ids.insert(1, token)
    return {"input_ids": ids, "attention_mask": [1] * len(ids)}
