"""Detect whether times changed while they were taken: throttling, other load, a short warm-up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

CHANGE, WARMING = 1.25, 1.1
CHANCE = 0.002
CUTS = (0.25, 0.5, 0.75)
ALIKE = 20
"""Calls of about one size, by which each of them is measured."""
BLOCKS = 8
"""Blocks in each half that a finding takes at least: calls of one share what disturbs them."""


def find_drift(calls: Sequence[Sequence[float]], sizes: Sequence[Sequence[int]]) -> str | None:
    """Return a sentence if one model's calls became lastingly longer or shorter, else None.

    Each call is divided by the median of some twenty calls of about its size, from all of the
    session: of its own row there may be no other. A change is reported if the medians before and
    after a cut through the session differ by a quarter and a Mann–Whitney test is significant.

    Args:
        calls: Of each process, its calls in ms, in time order.
        sizes: Of each process, how many tokens each call computes.
    """
    from scipy.stats import mannwhitneyu

    times = _relative_times(calls, sizes)
    worst, sentence = CHANGE, None
    for cut in CUTS:
        place = int(len(times) * cut)
        before, after = times[:place], times[place:]
        if not len(before) or not len(after):
            continue
        ratio = float(np.median(after) / np.median(before))
        size = max(ratio, 1 / ratio)
        if size <= worst or mannwhitneyu(before, after).pvalue >= CHANCE:
            continue
        worst = size
        longer, shorter = f"in the last {1 - cut:.0%}", f"in the first {cut:.0%}"
        if ratio <= 1:
            longer, shorter = shorter, longer
        sentence = (
            f"calls took {size:.2f} times as long {longer} of the session as {shorter}, "
            "which suggests throttling or other load on the machine"
        )
    return sentence


def find_warming(
    calls: Mapping[str, Sequence[Sequence[float]]], sizes: Sequence[Sequence[int]], block: int
) -> str | None:
    """Return a sentence if a model's processes were not warm when their timing began, else None.

    That is so if the blocks of the processes' first halves took a tenth longer than those of their
    second halves, of all processes together, and a Mann–Whitney test is significant. Whether a
    warm-up saw steady times says less: blocks of three calls on a noisy machine seldom are.

    Args:
        calls: Of each model and process, its calls in ms, in time order.
        sizes: Of each process, how many tokens each call computes.
        block: Calls of a block.
    """
    from scipy.stats import mannwhitneyu

    ends = np.cumsum([len(process) for process in sizes])[:-1]
    for model, processes in calls.items():
        times = _relative_times(processes, sizes)
        early: list[float] = []
        late: list[float] = []
        for process in np.split(times, ends):
            count = len(process) // block
            blocks = process[: count * block].reshape(count, block)
            medians = np.median(blocks, axis=1).tolist()
            early += medians[: count // 2]
            late += medians[count // 2 :]
        if len(early) < BLOCKS:
            continue
        ratio = float(np.median(early) / np.median(late))
        if ratio > WARMING and mannwhitneyu(early, late).pvalue < CHANCE:
            return (
                f"calls of {model} took {ratio:.2f} times as long in the first half of a process "
                "as in the second, which suggests that its warm-up was too short"
            )
    return None


def _relative_times(
    calls: Sequence[Sequence[float]], sizes: Sequence[Sequence[int]]
) -> NDArray[np.float64]:
    """Return all calls ``(calls,)``, each relative to the median of calls of about its size."""
    times_of = [np.asarray(process, dtype=float) for process in calls]
    tokens_of = [np.asarray(process) for process in sizes]
    times, tokens = np.concatenate(times_of), np.concatenate(tokens_of)
    shuffled = np.random.default_rng(0).permutation(len(times))  # equal sizes, early and late
    order = np.lexsort((shuffled, tokens))
    groups = max(1, len(order) // ALIKE)
    for group in np.array_split(order, groups):
        times[group] /= np.median(times[group])
    return times
