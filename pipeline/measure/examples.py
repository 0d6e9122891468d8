"""Choose example rows: what the candidate lost, what it won, and its confident errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.measure.measurements import CANDIDATE, ModelMeasurement

if TYPE_CHECKING:
    from pipeline.stage.split import Split
    from pipeline.stage.tasks import Task

LOST, WON, SURE = "lost", "won", "sure and wrong"
EACH = 12


def choose(
    task: Task, split: Split, truth: Sequence[Any], models: Mapping[str, ModelMeasurement]
) -> list[dict[str, str]]:
    """Return up to twelve rows of each kind, the candidate's most confident answers first.

    ``lost``: only the first reference is right. ``won``: only the candidate is right. ``sure and
    wrong``: the candidate is wrong, and the row is not among those lost. Returns an empty list if
    the split has no labels.
    """
    import numpy as np

    if not truth:
        return []
    ours = np.asarray(models[CANDIDATE].answers, dtype=float)
    right = task.scorer.correct(ours, truth)
    said = task.presenter.describe_prediction(ours, split)
    wanted = task.presenter.describe_target(split)
    sure = task.presenter.confidence(ours, truth)
    teacher = next((name for name in models if name != CANDIDATE), None)
    theirs = ours if teacher is None else np.asarray(models[teacher].answers, dtype=float)
    known = task.scorer.correct(theirs, truth)
    reference = task.presenter.describe_prediction(theirs, split)
    blocks = task.scorer.blocks(split)
    order = np.arange(len(right)) if sure is None else np.argsort(-sure, kind="stable")
    kinds = {LOST: ~right & known, WON: right & ~known, SURE: ~right}
    found: list[dict[str, str]] = []
    shown: set[int] = set()
    for kind, rows in kinds.items():
        picked = [row for row in order[rows[order]].tolist() if row not in shown][:EACH]
        shown.update(picked)
        found += [
            {"kind": kind, "text": split.texts[row if blocks is None else blocks[row]]}
            | ({} if split.pairs is None or blocks is not None else {"pair": split.pairs[row]})
            | {"truth": wanted[row]}
            | ({} if teacher is None else {"reference": reference[row]})
            | {"candidate": said[row]}
            | ({} if sure is None else {"sureness": f"{sure[row]:.0%}"})
            for row in picked
        ]
    return found
