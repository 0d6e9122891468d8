"""Choose example rows: what the candidate lost, what it won, and its confident errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.measure.measurements import CANDIDATE, ModelMeasurement

if TYPE_CHECKING:
    from pipeline.stage.data import Split

LOST, WON, SURE = "lost", "won", "sure and wrong"
EACH = 12
NOT_A_NUMBER = "not a number"


def choose(
    labels: Sequence[str], split: Split, models: Mapping[str, ModelMeasurement]
) -> list[dict[str, str]]:
    """Return up to twelve rows of each kind, the candidate's most confident answers first.

    ``lost``: only the first reference is right. ``won``: only the candidate is right. ``sure and
    wrong``: the candidate is wrong, and the row is not among those lost. Returns an empty list if
    the split has no labels.
    """
    import numpy as np

    from pipeline.stage import formulas

    if split.labels is None:
        return []
    truth = np.asarray(split.labels)
    probabilities = np.asarray(models[CANDIDATE].probabilities)
    ours = formulas.answers(probabilities)
    sure = np.where(ours >= 0, probabilities.max(axis=1), 0.0)
    teacher = next((name for name in models if name != CANDIDATE), None)
    theirs = ours
    if teacher is not None:
        theirs = formulas.answers(np.asarray(models[teacher].probabilities))
    order = np.argsort(-sure, kind="stable")
    kinds = {
        LOST: (ours != truth) & (theirs == truth),
        WON: (ours == truth) & (theirs != truth),
        SURE: ours != truth,
    }
    names = [*labels, NOT_A_NUMBER]  # answers() gives -1
    found: list[dict[str, str]] = []
    shown: set[int] = set()
    for kind, rows in kinds.items():
        picked = [row for row in order[rows[order]].tolist() if row not in shown][:EACH]
        shown.update(picked)
        found += [
            {"kind": kind, "text": split.texts[row]}
            | ({} if split.pairs is None else {"pair": split.pairs[row]})
            | {"truth": names[truth[row]]}
            | ({} if teacher is None else {"reference": names[theirs[row]]})
            | {"candidate": names[ours[row]], "sureness": f"{sure[row]:.0%}"}
            for row in picked
        ]
    return found
