"""Sentence embeddings from token embeddings, and their losses, as pure functions of tensors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from rarefy.pipeline.model.pooling import Pooling

SCALE = 20.0
"""What cosines are multiplied by before a softmax: the inverse of a temperature of 0.05."""
COSINE, SIMILARITIES = 10.0, 20.0
"""The weights of the two terms of ``imitation``."""
PART = 10_000
"""Embeddings of which there are copies in fp64 at once."""


def pooled(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Return one embedding for each text: rows × width.

    Args:
        hidden: rows × tokens × width.
        mask: rows × tokens, 1 for a token, 0 for padding: on the right, or for the mean and the
            last token on either side.
        pooling: the mean over tokens, the first token, or the last token, perhaps normalized.
    """
    if pooling.mode == "cls":
        embeddings = hidden[:, 0]
    elif pooling.mode == "last":
        embeddings = _last_token(hidden, mask)
    else:
        weight = mask[:, :, None].to(hidden.dtype)
        total = weight.sum(dim=1).clamp(min=1e-9)
        embeddings = (hidden * weight).sum(dim=1) / total
    if not pooling.normalize:
        return embeddings
    squares = embeddings.square().sum(dim=1, keepdim=True)
    return embeddings / squares.sqrt().clamp(min=1e-12)


def _last_token(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the state of each text's last token that is not padding: (rows, width)."""
    places = torch.arange(mask.shape[1], device=mask.device)
    last = (mask * places).argmax(dim=1)
    index = last[:, None, None].expand(-1, 1, hidden.shape[-1])
    return hidden.gather(1, index)[:, 0]


def ranking(queries: Tensor, documents: Tensor, relevant: Tensor) -> Tensor:
    """Return the loss of finding each query's document among all documents of the batch.

    Multiple negatives ranking (Henderson et al. 2017, arXiv 1705.00652), with cosines times
    ``SCALE`` as in Sentence-BERT's library (Reimers and Gurevych 2019, arXiv 1908.10084).

    Args:
        queries: rows × width.
        documents: at least rows × width; query i should find document i.
        relevant: rows × documents, whether a document has a text that the query should find. Such a
            document, other than its own, is not counted against it.
    """
    rows = torch.arange(len(queries), device=queries.device)
    queries = functional.normalize(queries.float())
    documents = functional.normalize(documents.float())
    logits = SCALE * (queries @ documents.T)
    others = relevant.clone()
    others[rows, rows] = False
    return functional.cross_entropy(logits.masked_fill(others, -1e4), rows)


def order(cosines: Tensor, scores: Tensor, scale: float = SCALE) -> Tensor:
    """Return the loss of pairs whose cosines are in another order than their scores.

    CoSENT (Su 2022, "CoSENT: a more effective sentence vector scheme than Sentence-BERT"): log(1 +
    Σ exp(scale · (cosine of i − cosine of j))) over all i, j in the batch where j has the greater
    score. Only the order of the scores counts, so they may have any scale.

    Args:
        cosines: pairs.
        scores: pairs; NaN: the pair has none and is left out.
        scale: the inverse of a temperature.
    """
    gaps = cosines[:, None] - cosines[None, :]
    misordered = scores[:, None] < scores[None, :]
    scaled = scale * gaps.float()
    terms = scaled.masked_fill(~misordered, float("-inf")).flatten()
    one = torch.zeros(1, device=gaps.device)  # whose exponential is the 1 of the sum
    exponents = torch.cat([one, terms])
    return exponents.logsumexp(dim=0)


def imitation(student: Tensor, teacher: Tensor) -> Tensor:
    """Return how far a student's embeddings are from a teacher's, in themselves and to each other.

    10 · (1 − cosine with the teacher's), averaged over the texts, and 20 · the mean squared
    difference of the cosines between all texts of the batch, which is what a search sees.

    Args:
        student: texts × width.
        teacher: texts × width, ``fitting`` the student's width.
    """
    student = functional.normalize(student.float())
    teacher = functional.normalize(teacher.float())
    cosines = (student * teacher).sum(dim=1)
    distance = 1 - cosines.mean()
    relations = functional.mse_loss(student @ student.T, teacher @ teacher.T)
    return COSINE * distance + SIMILARITIES * relations


def fitting(teacher: Tensor, width: int) -> Tensor | None:
    """Return what brings a teacher's embeddings (texts × its width) to another width.

    Narrower: the principal directions, which change the products of all pairs of texts least
    (Eckart and Young 1936). They are not centred, because cosines are not either. Wider: fill up
    with zeros, which changes no product. Its width × ``width``, fp64; None if they are equal.
    """
    teacher_width = teacher.shape[1]
    if width == teacher_width:
        return None
    if width > teacher_width:
        return torch.eye(teacher_width, width, dtype=torch.double)
    products = torch.zeros(teacher_width, teacher_width, dtype=torch.double)
    for part in teacher.split(PART):
        wide = part.double()
        products += wide.T @ wide
    _, directions = torch.linalg.eigh(products)  # in rising order
    return directions[:, -width:]


def turning(goals: Tensor, student: Tensor) -> Tensor:
    """Return the rotation of embeddings towards those that a student has already of these texts.

    No product changes: principal directions are as good in any rotation. But other rows have other
    ones, so that a student of one stage would have to turn in the next. Orthogonal Procrustes
    (Schönemann 1966) on the embeddings' directions.

    Args:
        goals: texts × width.
        student: the student's: texts × width.
    """
    goals = functional.normalize(goals.double())
    student = functional.normalize(student.double())
    left, _, right = torch.linalg.svd(goals.T @ student)
    return left @ right


def projected(embeddings: Tensor, seed: int) -> Tensor:
    """Return the sum over the texts of each embedding's product with random signs.

    A gradient's square is then an estimate of the diagonal of JᵀJ (Hutchinson 1989), the Fisher
    information of a Gaussian around the embedding: how much it moves, without any label.
    """
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(0, 2, embeddings.shape, generator=generator)
    signs = (2 * bits - 1).to(embeddings)
    return (embeddings * signs).sum()
