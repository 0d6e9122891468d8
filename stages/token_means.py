"""What a teacher makes of each token, and its principal components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.model import parts
from pipeline.stage import Context
from pipeline.stage.tasks.head import inputs_of
from stages.parameters import TEACHER_BATCH, Row
from stages.rows import lengths
from stages.trainer import collate, use_bf16


def of(
    context: Context, network: Any, tokenizer: Any, rows: Sequence[Row], most: int
) -> tuple[Tensor, Tensor]:
    """Return the mean last hidden state of each token, and how often each occurs: vocabulary × h.

    Of the rows, ``most`` at most are read. A token that occurs in none of them is read alone.
    """
    body = parts.body(network).to(context.device).eval()
    size = network.get_input_embeddings().num_embeddings
    chosen = np.random.default_rng(context.seed).permutation(len(rows))[:most]
    total, counts = torch.zeros(size, parts.width(network.config) or 0), torch.zeros(size)

    def read(batch: Sequence[Row], place: slice) -> None:
        tensors = {k: v.to(context.device) for k, v in collate(batch, tokenizer).items()}
        with (
            torch.inference_mode(),
            torch.autocast(
                context.device, torch.bfloat16, enabled=use_bf16(context.device, network)
            ),
        ):
            states = body(**inputs_of(tensors)).last_hidden_state.float().cpu()
        there = tensors["attention_mask"][:, place].cpu().bool()
        ids = tensors["input_ids"][:, place].cpu()[there]
        total.index_add_(0, ids, states[:, place][there])
        counts.index_add_(0, ids, torch.ones(len(ids)))

    order = chosen[np.argsort(lengths(rows)[chosen], kind="stable")]
    for start in range(0, len(order), TEACHER_BATCH):
        read([rows[row] for row in order[start : start + TEACHER_BATCH]], slice(None))
        context.progress(start, len(order), "tokens in the training rows")
    seen = counts.clone()
    alone = [token for token in range(size) if not counts[token]]
    before = tokenizer("")["input_ids"][:1]
    for start in range(0, len(alone), 8 * TEACHER_BATCH):
        batch = [_alone(tokenizer, token) for token in alone[start : start + 8 * TEACHER_BATCH]]
        read(batch, slice(len(before), len(before) + 1))
        context.progress(start, len(alone), "tokens alone")
    network.cpu()
    return total / counts.clamp(min=1)[:, None], seen


def reduced(means: Tensor, width: int) -> tuple[Tensor, float]:
    """Return rows × width principal components, of unit variance on average, and the share kept."""
    centred = means - means.mean(dim=0)
    values, vectors = torch.linalg.eigh((centred.T @ centred).double() / len(means))
    kept = values[-width:].sum() / values.sum()
    table = centred @ vectors[:, -width:].flip(1).float()
    return table / table.std(), float(kept)


def _alone(tokenizer: Any, token: int) -> Row:
    empty = tokenizer("")["input_ids"]
    ids = [*empty[:1], token, *empty[1:]]
    return {"input_ids": ids, "attention_mask": [1] * len(ids)}
