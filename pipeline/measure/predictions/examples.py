"""Choose example rows: what the candidate lost, what it won, and its confident errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rarefy.pipeline.measure.measurements import CANDIDATE, ModelMeasurement

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rarefy.pipeline.data.split import Split
    from rarefy.pipeline.tasks import Task

LOST, WON, SURE = "lost", "won", "sure and wrong"
EACH = 200
"""Rows of a kind, at most; the page shows fewer, disagreements.csv all."""


def choose(
    task: Task, split: Split, truth: Sequence[Any], models: Mapping[str, ModelMeasurement]
) -> list[dict[str, str]]:
    """Return up to ``EACH`` rows of each kind, the candidate's most confident answers first.

    ``lost``: only the first reference is right. ``won``: only the candidate is right. ``sure and
    wrong``: the candidate is wrong, and the row is not among those lost. Returns an empty list if
    the split has no labels.
    """
    import numpy as np

    if not truth:
        return []
    ours = np.asarray(models[CANDIDATE].answers, dtype=float)
    references = [name for name in models if name != CANDIDATE]
    theirs = ours
    if references:
        theirs = np.asarray(models[references[0]].answers, dtype=float)
    correct, reference_correct = (
        task.scorer.correct(ours, truth),
        task.scorer.correct(theirs, truth),
    )
    confidence = task.presenter.confidence(ours, truth)
    order = np.arange(len(correct))
    if confidence is not None:
        order = np.argsort(-confidence, kind="stable")
    columns = _columns(task, split, ours, theirs if references else None)
    if confidence is not None:
        columns["sureness"] = [f"{share:.0%}" for share in confidence]
    kinds = {
        LOST: ~correct & reference_correct,
        WON: correct & ~reference_correct,
        SURE: ~correct,
    }
    samples: list[dict[str, str]] = []
    shown: set[int] = set()
    for kind, of_kind in kinds.items():
        rows = [row for row in order[of_kind[order]].tolist() if row not in shown]
        for row in rows[:EACH]:
            sample = {"kind": kind}
            for name, values in columns.items():
                sample[name] = values[row]
            samples.append(sample)
        shown.update(rows[:EACH])
    return samples


def _columns(
    task: Task, split: Split, ours: NDArray[np.float64], theirs: NDArray[np.float64] | None
) -> dict[str, Sequence[str]]:
    """Return what is shown of each row as text, in the order of an example's keys.

    Args:
        task: Says what answers mean.
        split: The rows; if blocks of several are compared, each is shown by one of them.
        ours: The candidate's answers, ``(units, columns)``.
        theirs: Those of the reference, None if there is none.
    """
    blocks = task.scorer.blocks(split)
    columns: dict[str, Sequence[str]] = {"text": split.texts}
    if blocks is not None:
        columns["text"] = [split.texts[row] for row in blocks]
    elif split.pairs is not None:
        columns["pair"] = split.pairs
    columns["truth"] = task.presenter.describe_target(split)
    if theirs is not None:
        columns["reference"] = task.presenter.describe_prediction(theirs, split)
    columns["candidate"] = task.presenter.describe_prediction(ours, split)
    return columns
