"""Estimate the memory and disk that training and inference need from model and row sizes.

All sizes are bytes in fp32. Autocast to bfloat16 halves the activations but keeps a copy of the
weights.
"""

from __future__ import annotations

from pipeline.model.shape import Shape
from pipeline.stage.resources import FLOAT, Span, Workload, upto, weights

SAVED = 3
"""The most training checkpoints on disk: two are kept while a third is written."""
LISTED = 60
"""Bytes of a token in Python lists: one integer object and two or three references."""
DECODED = 2**25
"""Logits of a language model at once: 128 MiB."""
SAMPLING = 9
"""Tensors of this size that sampling from a nucleus holds; an index counts as two."""
OPTIMIZED = 3
"""Numbers kept for each trained weight: its gradient and AdamW's two moments."""


def training(shape: Shape, trained: int | None = None) -> Span:
    """Return weights, gradients and AdamW's moments: 4·P + 12·T if T of P weights are trained."""
    size = FLOAT * OPTIMIZED * (shape.parameters if trained is None else trained)
    return weights(shape) + Span(size if shape.exact else 0, size)


def checkpoints(shape: Shape, trained: int | None = None) -> Span:
    """Return the size of training checkpoints on disk: weights and AdamW's moments, 12·T each.

    At least one is written, at the end of training.
    """
    size = FLOAT * OPTIMIZED * (shape.parameters if trained is None else trained)
    return Span(size if shape.exact else 0, SAVED * size)


def exports(shape: Shape, *, compared: bool) -> Span:
    """Return the size of a network's checkpoint and int8 exports, as ``Finalists`` keeps them.

    That is 4·P and P; a second export with smoothed inputs, if the first was far off, is P more.
    With ``compared``, its answers are compared with those of a float export, of 4·P.
    """
    least = FLOAT * (2 if compared else 1) + 1
    size = shape.parameters
    return Span(least * size if shape.exact else 0, (least + 1) * size)


def activations(shape: Shape, rows: int, length: int) -> Span:
    """Return an upper bound on the activations a training step keeps for its backward pass.

    Each token keeps 11·h + 2·i + 3·heads·length numbers per layer: the input (1), query, key and
    value (3), the scaled query and key (2), the context (1), two dropout masks (2), the inputs of
    the second normalization and of the feed-forward part (2), its neurons before and after the
    activation (2·i), and the attention weights before and after dropout with the mask (3), which
    fused attention would not keep. Korthikanti et al. 2022 (arXiv 2205.05198, §4.1) count the same
    way for fp16. The embeddings count as one more layer.
    """
    token = 11 * shape.hidden + 2 * shape.intermediate + 3 * shape.heads * length
    return upto(FLOAT * rows * length * (shape.layers + 1) * token)


def answering(shape: Shape, rows: int, length: int) -> Span:
    """Return an upper bound on what a forward pass holds at once.

    That is all hidden states and one layer's intermediate results, 6·h + 2·i + 2·heads·length
    numbers per token.
    """
    part = 6 * shape.hidden + 2 * shape.intermediate + 2 * shape.heads * length
    return upto(FLOAT * rows * length * ((shape.layers + 1) * shape.hidden + part))


def decoding(tokens: int, vocabulary: int) -> Span:
    """Return an upper bound on what a language model's loss holds for its backward pass.

    Tokens × vocabulary numbers, three times: the logits, whose memory their gradient takes over,
    the log-probabilities, and the gradient of these.
    """
    return upto(FLOAT * 3 * tokens * vocabulary)


def tuning(size: int, body: Shape | None, rows: int, length: int) -> Span:
    """Return an upper bound on tuning a pretrained model, of ``size`` bytes, besides its loss.

    Weights, gradients and AdamW's moments, and a step's activations if its ``body`` is known.
    """
    step = Span() if body is None else activations(body, rows, length)
    return upto((1 + OPTIMIZED) * size) + step


def filling(length: int, vocabulary: int) -> Span:
    """Return an upper bound on what filling the masks of texts holds besides the model.

    The logits of all places of a text of ``length`` tokens, twice, and what sampling from
    ``DECODED`` of them takes.
    """
    return upto(FLOAT * (2 * max(DECODED, length * vocabulary) + SAMPLING * DECODED))


def tokenized(work: Workload, splits: frozenset[str]) -> Span:
    """Return an upper bound on the tokenized rows of some splits on disk (``stages.rows``).

    Each token has an id, a mask and perhaps a type, four bytes each.
    """
    return upto(3 * 4 * work.tokens_of(splits).most)


def listed(work: Workload, splits: frozenset[str]) -> Span:
    """Return an upper bound on the tokenized rows of some splits as Python lists."""
    return upto(LISTED * work.tokens_of(splits).most)


def logits(work: Workload, splits: frozenset[str]) -> Span:
    """Return the size of a teacher's outputs, texts × labels; each row has at least one text.

    They are on disk, and mapped into memory, where they take none that something else needs.
    """
    size = FLOAT * work.labels
    return _distinct(work, Span(size * work.rows_of(splits), size * work.texts_of(splits)))


def hidden_states(work: Workload, splits: frozenset[str], layers: int, width: int) -> Span:
    """Return the size of a teacher's hidden states on disk: tokens × layers × width, two bytes."""
    return _distinct(work, work.tokens_of(splits) * (2 * layers * width))


def _distinct(work: Workload, texts: Span) -> Span:
    """Return the size of what a teacher makes of texts: rows of several texts may share them."""
    return upto(texts.most) if work.together > 1 else texts
