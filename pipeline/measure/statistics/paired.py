"""Intervals of scores, alone and compared, from resampled blocks (rows, sentences, queries, pairs).

Blocks that belong together, such as the rows of a document, are drawn as one (``by_group``).

A plain bootstrap is too sure of itself in two ways. If few blocks differ, a sample without one of
the rare losses looks safe, and if none differs, its interval has no width. And percentiles do not
follow the skewness of a small sample.

So the blocks are drawn with Dirichlet weights (Rubin 1981, "The Bayesian bootstrap"), and each end
of an interval gets a share of one block more that nobody has seen: the worst plausible one at the
lower end, the best at the upper. With a whole block this is Gaffke's bound of a mean (Gaffke 2005,
"Three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative
variable"). For shares it is the bound of Clopper and Pearson, and if nothing differs in n blocks it
is the rule of three: 3/n at 95%. It errs to the safe side, which a budget's one-sided bounds
should. The two-sided interval gets a third of a block if many differ and the whole if none does; it
covers the truth in 97 of 100 samples on average, and in nearly all if few blocks differ.

How bad a block can be is estimated from the blocks' influences on the score (the pseudo-values of
the jackknife), and from what it would cost to miss one label more, if the task tells. No bound
holds against rare failures that are far worse than the worst answer of either model in the sample,
if a single one can move the score far: correlations and average precision.
``benchmarks/coverage_tasks.py`` measures all of this.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from rarefy.pipeline.measure.statistics.intervals import RESAMPLES, SEED, Bootstrap
from rarefy.pipeline.tasks.shared.formulas import Floats, Score
from rarefy.pipeline.terms.interval import Interval

GROUPS = 2000
"""With more blocks, that many groups of neighbouring blocks are left out in turn."""
FEW = 2
"""With that many blocks that differ, the next may be half way from the worst seen to the worst."""
LEAST_UNSEEN = 1 / 3
"""The part of an unseen block in a two-sided interval if very many blocks differ."""
_CHUNK = 2_000_000  # weights held at once: 16 MB
_ROUNDING = 1e-9  # influences below that share of the score are none


class Unseen(NamedTuple):
    """The block that nobody has seen: how far it may move a score, and how much of it is added.

    ``reach`` is in the unit of the score, as the block's influence × number of blocks.
    """

    reach: float
    part: float


class _Draws(NamedTuple):
    scores: Floats  # models × draws
    total: Floats  # of the weights before they were normalized
    generator: np.random.Generator

    def share_of(self, part: float) -> Floats:
        """Return the weight of ``part`` of one more block in each draw."""
        extra = self.generator.gamma(part, size=self.total.shape)
        return extra / (extra + self.total)


def compare(
    candidate: Score,
    reference: Score,
    blocks: int,
    seed: int = SEED,
    resamples: int = RESAMPLES,
    *,
    heaviest: float = 0.0,
) -> Bootstrap:
    """Compare a score of two models on the same blocks.

    ``candidate``, ``reference``: the score as a function of block weights. ``heaviest``: how far
    one block may move the score, if that is known, in the unit of ``Unseen.reach``. Bounds of the
    ratio are those of 1 + difference / reference, draw by draw; they say nothing if the reference's
    score may be 0. If it is 0, they are infinite or NaN. The ratio to a score that may be negative,
    of which more is less, is NaN with its bounds. If a score is NaN, so are all bounds.
    """
    ours, theirs = _whole(candidate, blocks), _whole(reference, blocks)
    first, second = influences(candidate, blocks), influences(reference, blocks)
    our_largest, their_largest = _largest(first, ours, blocks), _largest(second, theirs, blocks)
    largest = max(our_largest, their_largest, heaviest)
    unseen = unseen_block(first - second, largest)
    draws = _draw((candidate, reference), blocks, seed, resamples)
    our_scores, their_scores = draws.scores
    differences = our_scores - their_scores
    two_sided = _ends(differences, draws, 0.025, unseen)
    whole_block = unseen._replace(part=1.0)
    one_sided = _ends(differences, draws, 0.05, whole_block)
    difference_bounds, ratio_bounds = [], []
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = float(np.float64(ours) / theirs)
        for end, tail in (*two_sided, *one_sided):
            ratios = 1 + end / their_scores
            ratio_bound = np.quantile(ratios, tail)
            difference_bound = np.quantile(end, tail)
            ratio_bounds.append(float(ratio_bound))
            difference_bounds.append(float(difference_bound))
    if np.quantile(their_scores, 0.025) < 0:
        ratio, ratio_bounds = math.nan, [math.nan] * 4
    difference, difference90 = _nested(ours - theirs, *difference_bounds)
    ratios, ratios90 = _nested(ratio, *ratio_bounds)
    return Bootstrap(difference, ratios, difference90, ratios90)


def alone(
    score: Score,
    blocks: int,
    seed: int = SEED,
    resamples: int = RESAMPLES,
    *,
    heaviest: float = 0.0,
) -> Interval:
    """Return a score with its 95% interval; ``heaviest`` as for ``compare``."""
    value, influence = _whole(score, blocks), influences(score, blocks)
    largest = max(_largest(influence, value, blocks), heaviest)
    changes = influence - value
    unseen = unseen_block(changes, largest)
    draws = _draw((score,), blocks, seed, resamples)
    differences = draws.scores[0] - value
    lower, upper = _ends(differences, draws, 0.025, unseen)
    low, high = np.quantile(*lower), np.quantile(*upper)
    return Interval(value, value + float(low), value + float(high))


def by_group(score: Score, groups: Sequence[int], blocks: int) -> tuple[Score, int]:
    """Return a score of blocks as one of groups of blocks, and their number.

    ``groups``: each block's group; if empty, each is its own. The weight of a group is that of each
    of its blocks, so whole groups are drawn.
    """
    if not len(groups):
        return score, blocks
    names, number = np.unique(groups, return_inverse=True)
    at_once = max(1, _CHUNK // len(number))

    def of_groups(weights: Floats) -> Floats:
        parts = []
        for start in range(0, len(weights), at_once):
            of_blocks = weights[start : start + at_once, number]
            parts.append(score(of_blocks))
        return np.concatenate(parts)

    return of_groups, len(names)


def unevenness(groups: Sequence[int]) -> float:
    """Return how much larger the group of a row is than a group, on average; 1 without groups.

    A group that nobody has seen may be one of the large ones, in which most rows are. As large as
    the largest would be safer still, but the intervals would be twice as wide.
    """
    if not len(groups):
        return 1.0
    _, sizes = np.unique(groups, return_counts=True)
    mean_square, mean = np.mean(sizes**2), np.mean(sizes)
    return float(mean_square / mean**2)


def influences(score: Score, blocks: int) -> Floats:
    """Return each block's pseudo-value n S − (n − 1) S₍₋ᵢ₎, which for a mean is its own value.

    With more than ``GROUPS`` blocks, neighbours share one: the score and the sum of what each adds
    to it, so that a rare difference is seen as it is.
    """
    whole, size = _whole(score, blocks), _size(blocks)
    if blocks == 1:
        return np.array([whole])
    starts = np.arange(0, blocks, size)
    step = max(1, _CHUNK // blocks)
    values = []
    for first in range(0, len(starts), step):
        chunk = starts[first : first + step]
        weights = np.ones((len(chunk), blocks))
        for row, start in enumerate(chunk):
            weights[row, start : start + size] = 0.0
        left = weights.sum(axis=1)
        changes = whole - score(weights)
        values.append(whole + left * changes)
    return np.concatenate(values)


def unseen_block(changes: Floats, largest: float) -> Unseen:
    """Return the unseen block, from each block's influence on a difference.

    ``changes``: influences, of which those of blocks without a difference are 0; ``largest``: how
    far the worst block of a model is from its best, which a block that fails for once may lose.

    The effective number of blocks that differ is k = Σc²/max c². The more have been seen, the less
    likely is the next to be worse than all of them: the reach goes from ``largest`` to the largest
    change by the share k/(k + ``FEW``). (Of k alike, the next is the largest with probability
    1/(k + 1); the tails of rank correlations need more.)
    """
    most = float(np.abs(changes).max())
    if not most > _ROUNDING * largest:
        return Unseen(largest, 1.0)
    relative = changes / most
    differing = float(np.sum(relative**2))
    new = FEW / (differing + FEW)
    beyond = max(largest - most, 0.0)
    reach = most + beyond * new
    return Unseen(reach, LEAST_UNSEEN + (1 - LEAST_UNSEEN) * new)


def _ends(
    drawn: Floats, draws: _Draws, tail: float, unseen: Unseen
) -> tuple[tuple[Floats, float], tuple[Floats, float]]:
    """Return, for the lower and the upper end, the draws and the quantile of them."""
    share = draws.share_of(unseen.part)
    seen = (1 - share) * drawn
    reach = share * unseen.reach
    return (seen - reach, tail), (seen + reach, 1 - tail)


def _draw(scores: tuple[Score, ...], blocks: int, seed: int, resamples: int) -> _Draws:
    generator = np.random.default_rng(seed)
    drawn, totals = [], []
    for weights in _weights(generator, blocks, resamples):
        total = weights.sum(axis=1)
        weights *= blocks / total[:, None]
        drawn.append(np.stack([score(weights) for score in scores]))
        totals.append(total)
    return _Draws(np.concatenate(drawn, axis=1), np.concatenate(totals), generator)


def _weights(generator: np.random.Generator, blocks: int, resamples: int) -> Iterator[Floats]:
    chunk = max(1, _CHUNK // blocks)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        yield generator.exponential(size=(rows, blocks))


def _nested(
    value: float, low: float, high: float, low90: float, high90: float
) -> tuple[Interval, Interval]:
    """Return the 95% interval, wide enough to hold the 90% one, which adds more of a block."""
    wide = Interval(value, min(low, low90), max(high, high90))
    return wide, Interval(value, low90, high90)


def _largest(influence: Floats, value: float, blocks: int) -> float:
    """Return how far a block may move a score: from the best seen to the worst, or to nothing.

    In groups, it is the mean block of each group.
    """
    values = value + (influence - value) / _size(blocks)
    best, worst = max(values.max(), 0.0), min(values.min(), 0.0)
    return float(best - worst)


def _size(blocks: int) -> int:
    return math.ceil(blocks / GROUPS)


def _whole(score: Score, blocks: int) -> float:
    value = score(np.ones((1, blocks)))[0]
    return float(value)
