"""Intervals of precision, recall and F1 of one label, alone and relative to a reference.

Each is a ratio of two sums over blocks (rows, sentences, or groups of them): what is drawn are the
blocks that count for the label, each with its own hits and denominator. That is the same as to draw
from all blocks and to look at those: the others add nothing to either sum.

A bootstrap of twenty rows that are all right has no width, so small cells have other intervals. The
recall of rows, each of which has the label once, is a share of these rows: it has the intervals of
accuracy, Wilson's (1927) alone and Tango's (1998, "Equivalence test and confidence interval for the
difference in proportions for the paired-sample design") compared, which are those of a score test
and keep a width if nothing differs. So has the precision of a model alone, a share of the rows that
it gives the label. All else, and all that comes in sentences or groups, has the weights and the
unseen block of ``rarefy.pipeline.measure.statistics.paired`` (Gaffke 2005), which is the rule of
three if nothing differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rarefy.pipeline.measure.statistics import intervals, paired, scores
from rarefy.pipeline.measure.statistics.intervals import SEED, Bootstrap
from rarefy.pipeline.tasks.classification.text import TEXT_CLASSIFICATION
from rarefy.pipeline.tasks.shared.formulas import Floats, Labels
from rarefy.pipeline.tasks.shared.means import ratio
from rarefy.pipeline.tasks.task import LabelTable
from rarefy.pipeline.terms.interval import Interval


class Ratio(NamedTuple):
    """A score of a label as a ratio of two sums over blocks, ``(blocks,)`` each.

    ``hits``: how often the label is rightly given. ``of``: how often that could be, which is how
    often it is true for recall, how often it is given for precision, and the mean of both for F1.
    """

    hits: Floats
    of: Floats

    @property
    def is_share(self) -> bool:
        """Whether each block that counts is one row, right or wrong."""
        return bool(np.isin(self.of, (0, 1)).all())

    @property
    def unevenness(self) -> float:
        """How far a block of the size that a row is in may move the score, times the blocks.

        As ``paired.unevenness``; the blocks of the other model alone have none of the size.
        """
        mean_square = np.mean(self.of**2)
        mean = np.mean(self.of)
        return float(mean_square / mean**2)


def ratios(
    metric: str, table: LabelTable, label: str, groups: Sequence[int] = ()
) -> tuple[Ratio, ...]:
    """Return the score of each model of a table, over the blocks that count for any of them.

    Args:
        metric: ``precision``, ``recall`` or ``f1``.
        table: The true labels, and those that the models give.
        label: One of its names. Of any other name there are no blocks.
        groups: The group of each block; empty if each is its own.
    """
    if label not in table.names:
        nothing = np.zeros(0)
        return tuple(Ratio(nothing, nothing) for _ in table.predicted)
    names = list(table.names)
    column = names.index(label)
    true = table.true[:, column]
    predictions = [predicted[:, column] for predicted in table.predicted]
    counts = true
    if metric != "recall":
        counts = np.any([true, *predictions], axis=0)
    block = _blocks(table, groups)[counts]
    of_models = []
    for predicted in predictions:
        score = _ratio(metric, block, true[counts], predicted[counts])
        of_models.append(score)
    return tuple(of_models)


def _blocks(table: LabelTable, groups: Sequence[int]) -> Labels:
    """Return the block of each row of a table: its group, if there are any."""
    block = table.blocks
    if block is None:
        block = np.arange(len(table.true))
    if not len(groups):
        return block
    of_block = np.asarray(groups)
    return of_block[block]


def _ratio(
    metric: str, block: Labels, true: NDArray[np.bool_], predicted: NDArray[np.bool_]
) -> Ratio:
    """Return a score from rows; ``block``: the block of each, ``(rows,)`` like the others."""
    _, number = np.unique(block, return_inverse=True)
    hits = _sums(number, true & predicted)
    trues = _sums(number, true)
    if metric == "recall":
        return Ratio(hits, trues)
    givens = _sums(number, predicted)
    if metric == "precision":
        return Ratio(hits, givens)
    both = trues + givens
    return Ratio(hits, both / 2)


def alone(metric: str, score: Ratio, seed: int = SEED) -> Interval | None:
    """Return a score with its 95% interval; None if the label is never true, or never given."""
    counts = score.of > 0
    counted = Ratio(score.hits[counts], score.of[counts])
    blocks = len(counted.of)
    if not blocks:
        return None
    if counted.is_share:
        hits = int(counted.hits.sum())
        return intervals.wilson(hits, blocks)
    heaviest = counted.unevenness
    interval = paired.alone(ratio(*counted), blocks, seed, heaviest=heaviest)
    return scores.within(metric, interval)


def compare(metric: str, ours: Ratio, theirs: Ratio, seed: int = SEED) -> Bootstrap | None:
    """Compare a score of candidate and reference on the same blocks.

    Returns None if there are no blocks, or a model never gives the label that is asked for its
    precision.
    """
    if not ours.of.any() or not theirs.of.any():
        return None
    if metric == "recall" and ours.is_share:
        first = _as_answers(ours.hits)
        second = _as_answers(theirs.hits)
        truth = [0] * len(first)
        return scores.compare(TEXT_CLASSIFICATION, "accuracy", first, second, truth, seed)
    heaviest = max(ours.unevenness, theirs.unevenness)
    blocks = len(ours.of)
    drawn = paired.compare(ratio(*ours), ratio(*theirs), blocks, seed, heaviest=heaviest)
    return scores.bounded(metric, drawn)


def _as_answers(right: Floats) -> Floats:
    """Return answers to rows whose label is the first of two: that one where they are right."""
    wrong = 1 - right
    return np.stack([right, wrong], axis=1)


def _sums(block: Labels, rows: NDArray[np.bool_]) -> Floats:
    """Return how many rows of each block are True."""
    blocks = block.max(initial=-1) + 1
    return np.bincount(block, rows, blocks).astype(float)
