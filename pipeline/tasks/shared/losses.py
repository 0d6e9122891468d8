"""Losses of training and distillation, as pure functions of tensors."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from rarefy.pipeline.data.table import IGNORED


def hard(logits: Tensor, labels: Tensor, *, total: bool = False) -> Tensor:
    """Return the cross-entropy averaged over the rows that have a label; 0 if none has one.

    Args:
        logits: rows × labels.
        labels: rows, class indices or ``IGNORED``.
        total: return the sum over the rows instead of their mean.
    """
    summed = functional.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="sum")
    return summed if total else _mean(summed, labels != IGNORED)


def _mean(summed: Tensor, labelled: Tensor) -> Tensor:
    """Return a sum divided by the number of set flags in ``labelled``, or by 1 without any."""
    count = labelled.sum().clamp(min=1)
    return summed / count


def squared(scores: Tensor, goal: Tensor, *, total: bool = False) -> Tensor:
    """Return the squared error averaged over the rows that have a goal; 0 if none has one.

    Args:
        scores: (rows,).
        goal: (rows,); NaN is none.
        total: return the sum over the rows instead of their mean.
    """
    labelled = ~goal.isnan()
    difference = scores.float()[labelled] - goal[labelled]
    summed = difference.square().sum()
    return summed if total else _mean(summed, labelled)


def relevance(scores: Tensor, goal: Tensor, group: Tensor, *, total: bool = False) -> Tensor:
    """Return the loss of a reranker's logits: each row's relevance, and the order of rows.

    The mean binary cross-entropy of rows with their relevance, and ``order`` of the rows of a
    query that are in the batch.

    Args:
        scores: one logit per row.
        goal: the relevance of each row, from 0 to 1; NaN is none.
        group: the number of each row's query.
        total: return the sum over rows, without the order, which is no property of a row.
    """
    labelled = ~goal.isnan()
    logits = scores.float()[labelled]
    summed = functional.binary_cross_entropy_with_logits(
        logits, goal[labelled].float(), reduction="sum"
    )
    if total:
        return summed
    return _mean(summed, labelled) + order(scores, goal, group)


def order(scores: Tensor, goal: Tensor, group: Tensor) -> Tensor:
    """Return the loss of pairs of rows in the wrong order, averaged over pairs; 0 without pairs.

    RankNet (Burges et al. 2005, "Learning to rank using gradient descent"): log(1 + exp(-margin))
    of the better row's score over the worse one's. A pair is of one group, with goals that differ.

    Args:
        scores: (rows,).
        goal: (rows,); a row whose goal is NaN is in no pair.
        group: (rows,), the number of each row's query.
    """
    same_query = group[:, None] == group
    better = same_query & (goal[:, None] > goal)
    wide = scores.float()
    margins = (wide[:, None] - wide)[better]
    losses = functional.softplus(-margins)
    return _mean(losses.sum(), better)


def soft(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the Kullback-Leibler divergence from the teacher's softened answers, times T².

    Hinton et al. 2015 (arXiv 1503.02531): the factor keeps the gradient's scale independent of T.

    Args:
        student: rows × labels, logits.
        teacher: rows × labels, logits.
        temperature: T; both logits are divided by it.
    """
    student = functional.log_softmax(student.float() / temperature, dim=-1)
    teacher = functional.log_softmax(teacher.float() / temperature, dim=-1)
    divergence = functional.kl_div(student, teacher, log_target=True, reduction="batchmean")
    return divergence * temperature**2


def binary(logits: Tensor, flags: Tensor, *, total: bool = False) -> Tensor:
    """Return the binary cross-entropy of labels that may occur together; 0 if no row has any flag.

    Args:
        logits: rows × labels.
        flags: rows × labels, 1 for a label of the row, 0 for another; a row without is ``IGNORED``.
        total: return the sum over the rows of their mean over labels, instead of its mean.
    """
    labelled = flags[:, 0] != IGNORED
    goal = flags[labelled]
    rows = logits[labelled].float()
    losses = functional.binary_cross_entropy_with_logits(rows, goal.float(), reduction="none")
    summed = losses.mean(dim=1).sum()
    return summed if total else _mean(summed, labelled)


def soft_binary(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the binary cross-entropy with the teacher's softened probabilities, times T².

    ``soft`` for labels that may occur together: the mean over rows and labels (both logits are rows
    × labels, and are divided by the ``temperature`` T).
    """
    goal = (teacher.float() / temperature).sigmoid()
    logits = student.float() / temperature
    loss = functional.binary_cross_entropy_with_logits(logits, goal)
    return loss * temperature**2
