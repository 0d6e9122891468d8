"""About how much each of our stages computes, for the times that ``rarefy plan`` estimates.

One table instead of a method of each stage: an estimate is no part of what a stage promises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from rarefy.pipeline.run.estimate import Workload
from rarefy.pipeline.sources import plugin_code
from rarefy.pipeline.stage import Stage

Rows = Mapping[str, float]
"""How many rows each split has, and each earlier transfer set of a known size, by step id."""

SPAN: Final = 0.4
"""Length of a random span as a share of a row; rows are sentences."""
MANY: Final = 20_000
"""Rows from which an export answers instead of the teacher."""
INT8: Final = 2.0
"""How many times faster an int8 export answers."""
RANKING: Final = 4
"""Passes of a row by which units are ranked: forward, backward as two, and to repair."""
EXPORT: Final = 8.0
"""Seconds of an export."""
MEASURING: Final = 40.0
"""Seconds of ``validate`` besides its timing: exports, answers, memory and fresh starts."""
SOLVING: Final = 15.0
"""Seconds of the decompositions of a model's layers, or of the least squares after pruning."""


def workload(stage: Stage, rows: Rows) -> Workload | None:
    """Return about how much a stage will compute; None if that is not known."""
    module = type(stage).__module__
    if module.partition(".")[0] not in plugin_code.OWN:
        return None
    estimate = WORKLOADS.get(stage.name)
    transfer = getattr(stage, "transfer", None)
    if estimate is None or (transfer and transfer not in rows):
        return None
    return estimate(stage, rows)


def _small(stage: Any, rows: Rows) -> Workload:
    return Workload()


def _finetune(stage: Any, rows: Rows) -> Workload:
    learned = stage.epochs * rows["train"]
    return Workload(learned)


def _adapt(stage: Any, rows: Rows) -> Workload:
    train = rows["train"]
    answered = train if stage.teacher else 0.0
    return Workload(stage.epochs * train, answered)


def _augment(stage: Any, rows: Rows) -> Workload | None:
    """Count the clauses of a row as one row. Nobody knows the rows of a file that is whole."""
    numbers = [text.rows for text in stage.texts]
    if None in numbers:
        return None
    of_row = SPAN * stage.spans + stage.clauses + stage.splices
    texts = min(stage.max_texts, of_row * rows["train"])
    texts += sum(numbers)
    return Workload(made=texts)


def _label(stage: Any, rows: Rows) -> Workload:
    texts = rows.get(stage.transfer or "")
    if stage.file is not None:
        return Workload(made=texts)
    teachers = 1 + len(stage.teachers)
    answered = texts or 0.0
    for split in stage.reads:
        answered += rows.get(split, 0.0)
    seconds = 0.0
    if answered >= MANY and stage.engine != "pytorch":
        answered /= INT8
        seconds = teachers * EXPORT
    answered *= teachers
    return Workload(answered=answered, made=texts, seconds=seconds)


def _distill(stage: Any, rows: Rows) -> Workload:
    """Count no answers to a transfer set: mostly, ``label`` has given them."""
    rows_of_epoch = _taught(stage, rows)
    learned = stage.epochs * rows_of_epoch
    answered = 0.0 if stage.transfer else rows_of_epoch
    return Workload(learned, answered)


def _prune(stage: Any, rows: Rows) -> Workload:
    """Take a layer's attention as a third of its weights, and its neurons as the rest."""
    share = 1 - (stage.remove_heads + 2 * stage.remove_neurons) / 3
    share *= (1 - stage.remove_macs) / (stage.speedup or 1.0)
    calibration = min(stage.calibration_rows, rows["train"])
    ranked = RANKING * stage.rounds * calibration
    epochs = stage.rounds * stage.recover_epochs
    learned = epochs * _taught(stage, rows)
    return Workload(learned, ranked, share=share, seconds=SOLVING)


def _taught(stage: Any, rows: Rows) -> float:
    """Return the rows that a student learns in an epoch."""
    texts = rows.get(stage.transfer or "", 0.0)
    return rows["train"] + rows.get("unlabelled", 0.0) + texts


def _factorize(stage: Any, rows: Rows) -> Workload:
    calibration = min(stage.calibration_rows, rows["train"])
    ranked = RANKING * calibration
    learned = stage.recover_epochs * _taught(stage, rows)
    return Workload(learned, ranked, share=stage.keep_weights, seconds=SOLVING)


def _quantize(stage: Any, rows: Rows) -> Workload:
    if stage.mode == "search":
        seconds = stage.seconds
        return Workload(seconds=seconds)
    answered = min(stage.calibration_rows, rows["train"])
    return Workload(answered=answered)


def _export(stage: Any, rows: Rows) -> Workload:
    return Workload(seconds=EXPORT)


def _measuring(stage: Any, rows: Rows) -> Workload:
    seconds = MEASURING + stage.seconds
    return Workload(seconds=seconds)


WORKLOADS: Final[Mapping[str, Callable[[Any, Rows], Workload | None]]] = {
    "import": _small,
    "finetune": _finetune,
    "adapt": _adapt,
    "merge": _small,
    "augment": _augment,
    "label": _label,
    "distill": _distill,
    "prune": _prune,
    "factorize": _factorize,
    "quantize": _quantize,
    "export": _export,
    "profile": _measuring,
    "validate": _measuring,
}
"""Of our stages by name; those of others, and what depends on more than rows, have none."""
