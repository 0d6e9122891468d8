"""Whether the machine became another one while it was timed: throttled, or loaded half way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CHANGE = 1.25
CHANCE = 0.002
CUTS = (0.25, 0.5, 0.75)


def found(calls: Sequence[Sequence[float]], rows: Sequence[Sequence[int]]) -> str | None:
    """Return a sentence where one model's calls became much longer or shorter for good.

    ``calls``: process × calls in ms in the order of time, ``rows`` the row of each. Each call is
    taken as a share of its row's median; a change is one by a quarter, on either side of a cut
    through the session, that Mann–Whitney does not leave to chance.
    """
    from scipy.stats import mannwhitneyu

    times = np.concatenate([np.asarray(process, dtype=float) for process in calls])
    names = np.concatenate([np.asarray(process) for process in rows])
    for row in np.unique(names):
        times[names == row] /= np.median(times[names == row])
    worst, sentence = CHANGE, None
    for cut in CUTS:
        before, after = np.split(times, [int(len(times) * cut)])
        if not len(before) or not len(after):
            continue
        ratio = float(np.median(after) / np.median(before))
        size = max(ratio, 1 / ratio)
        if size > worst and mannwhitneyu(before, after).pvalue < CHANCE:
            worst = size
            first, second = ("after", "before") if ratio > 1 else ("before", "after")
            sentence = (
                f"calls took {size:.2f} times as long {first} {cut:.0%} of the session as "
                f"{second}: the machine was throttled or loaded meanwhile"
            )
    return sentence
