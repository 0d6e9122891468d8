"""How much memory and disk training and answering take, from the sizes of the model and the rows.

Bytes in fp32: autocast to bfloat16 halves activations, and keeps a copy of the weights instead.
"""

from __future__ import annotations

from pipeline.model.shape import Shape
from pipeline.stage.resources import FLOAT, TOKENIZED, Span, Workload, upto, weights

SAVED = 3
"""Training checkpoints on disk at the most: two are kept while the third is written."""
OPTIMIZED = 3
"""For each trained weight: its gradient and AdamW's two averages."""


def training(shape: Shape, trained: int | None = None) -> Span:
    """Return weights, gradients and AdamW's averages: 4·P + 12·T, T of the P weights trained."""
    size = FLOAT * OPTIMIZED * (shape.parameters if trained is None else trained)
    return weights(shape) + Span(size if shape.exact else 0, size)


def checkpoints(shape: Shape, trained: int | None = None) -> Span:
    """Return a training's checkpoints on disk: weights and AdamW's averages, 12·T each.

    One is always written at the end of a training.
    """
    size = FLOAT * OPTIMIZED * (shape.parameters if trained is None else trained)
    return Span(size if shape.exact else 0, SAVED * size)


def activations(shape: Shape, rows: int, length: int) -> Span:
    """Return what a training step keeps for its way back, at most.

    A token keeps in each layer 11·h + 2·i + 3·heads·length numbers: the input (1), query, key and
    value (3), the scaled query and key (2), the context (1), two dropout masks (2), the inputs of
    the second normalization and of the feed-forward part (2), its neurons before and after the
    activation (2·i), and the attention weights before and after dropout with the mask (3), which
    fused attention would not keep. (As Korthikanti et al. 2022, arXiv 2205.05198, §4.1, count for
    fp16.) The embeddings count as one more layer.
    """
    token = 11 * shape.hidden + 2 * shape.intermediate + 3 * shape.heads * length
    return upto(FLOAT * rows * length * (shape.layers + 1) * token)


def answering(shape: Shape, rows: int, length: int) -> Span:
    """Return what a forward pass holds at once, at most: all hidden states and one layer's parts.

    One layer's parts: 6·h + 2·i + 2·heads·length numbers a token.
    """
    part = 6 * shape.hidden + 2 * shape.intermediate + 2 * shape.heads * length
    return upto(FLOAT * rows * length * ((shape.layers + 1) * shape.hidden + part))


def tokenized(work: Workload, splits: frozenset[str]) -> Span:
    """Return the tokenized rows of some splits as Python lists."""
    tokens = work.tokens_of(splits)
    return Span(tokens.least * TOKENIZED.least, tokens.most * TOKENIZED.most)


def logits(work: Workload, splits: frozenset[str]) -> Span:
    """Return a teacher's logits on disk, rows × labels: the file, and the one that replaces it."""
    size = FLOAT * work.rows_of(splits) * work.labels
    return Span(size, 2 * size)


def hidden_states(work: Workload, splits: frozenset[str], layers: int, width: int) -> Span:
    """Return a teacher's hidden states on disk: tokens × layers × width numbers of two bytes."""
    return work.tokens_of(splits) * (2 * layers * width)
