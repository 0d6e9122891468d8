"""Answers of another system instead of a teacher's: a file of predictions, joined to the rows."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rarefy.pipeline.data.development_split import picked
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.sources import references
from rarefy.pipeline.stage import Context, Draft
from rarefy.pipeline.store.artifact import Metric
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.terms.errors import DataError
from rarefy.pipeline.terms.metrics import known
from rarefy.pipeline.terms.wording import quantity
from rarefy.stages.transfer import files as transfer_set
from rarefy.stages.transfer import predictions as outside
from rarefy.stages.transfer.files import TEXTS, TRANSFER
from rarefy.stages.transfer.predictions import Joined, Predictions

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

FEWEST = 0.5
"""The least share of the rows that must have a prediction: with fewer, texts hardly match."""
DEV = "dev"
"""The split that a student does not learn."""


def check(
    file: str, id_column: str | None, task: Task, base: Path, splits: Sequence[Split]
) -> None:
    """Raise DataError if a file has no predictions for the task, or for too few of the rows."""
    predictions = outside.read(file, base, task, id_column)
    _check_coverage(file, _joined(predictions, splits), splits)


def draft(
    file: str, id_column: str | None, context: Context, splits: Sequence[Split], texts: Split | None
) -> Draft:
    """Write the answers of a file to the rows that it has some for, and a copy of the file.

    Args:
        file: its path or reference.
        id_column: its column of ids; None if rows are found by their texts.
        context: of the stage.
        splits: the recipe's rows that are answered.
        texts: those of a transfer set, if any.

    Raises:
        DataError: as ``check`` does.
    """
    import torch

    predictions = outside.read(file, context.base, context.task, id_column)
    answered_splits = list(splits)
    if texts is not None:
        answered_splits.append(texts)
    joined = _joined(predictions, answered_splits)
    _check_coverage(file, joined, answered_splits)
    roles: dict[str, str] = {}
    facts: dict[str, Any] = {}
    rows = {}
    for split in splits:
        answered_rows = joined[split.name].rows
        if len(answered_rows) < len(split):
            rows[split.name] = answered_rows
    if texts is not None:
        answered_rows = joined[TRANSFER].rows
        answered_texts = picked(texts, answered_rows, texts.name, texts.sha256)
        roles = transfer_set.write(context.output, transfer_set.rows(answered_texts))
        facts = {TEXTS: len(answered_texts)}
    answers: dict[str, Tensor] = {}
    for name, answered in joined.items():
        answers[name] = torch.from_numpy(answered.outputs)
    roles |= transfer_set.write_answers(context.output, answers, rows)
    source = references.data_file(file, context.base, "label.file")
    name = outside.FILE + "".join(source.suffixes)
    shutil.copyfile(source, context.output / name)
    roles[name] = outside.FILE
    facts[outside.FILE] = name
    facts[outside.ID] = id_column
    metrics = _describe(file, context.task, joined, answered_splits)
    return Draft(roles, facts, tuple(metrics))


def _joined(predictions: Predictions, splits: Sequence[Split]) -> dict[str, Joined]:
    return {split.name: predictions.join(split) for split in splits}


def _check_coverage(file: str, joined: Mapping[str, Joined], splits: Sequence[Split]) -> None:
    """Raise DataError if too few rows that a student would learn have a prediction."""
    learned = []
    total = count = 0
    for split in splits:
        if split.name == DEV:
            continue
        learned.append(split)
        total += len(split)
        count += len(joined[split.name].rows)
    if count < FEWEST * total:
        raise DataError(
            f"{file}: predictions for {_shares(joined, learned)}; at least half of the rows need "
            "one, found by the same text to the character, or by label.id"
        )


def _describe(
    file: str, task: Task, joined: Mapping[str, Joined], splits: Sequence[Split]
) -> list[Metric]:
    """Return how many rows have a prediction, and how well they fit the labels; log both."""
    metrics = []
    for split in splits:
        count = len(joined[split.name].rows)
        left_out = len(split) - count
        for name, value in (("rows", count), ("rows_left_out", left_out)):
            metric = Metric(name=name, split=split.name, value=value)
            metrics.append(metric)
    summary = f"label: {file}: predictions for {_shares(joined, splits)}"
    for split in splits:
        score = _score(task, joined[split.name], split)
        if score is None:
            continue
        metrics.append(score)
        unit = known(score.name).unit
        value = quantity(score.value, unit)
        summary += f"; {score.name} against the labels of {split.name}: {value}"
    log.warning(summary)
    return metrics


def _score(task: Task, predicted: Joined, split: Split) -> Metric | None:
    """Return the main score of predictions against the labels of their rows, if there are any."""
    from rarefy.pipeline.measure.predictions.predict import main_score

    labelled = picked(split, predicted.rows, split.name, split.sha256)
    if not labelled.labels or task.head.body_only:
        return None
    return main_score(task, task.head.predictions(predicted.outputs), labelled)


def _shares(joined: Mapping[str, Joined], splits: Sequence[Split]) -> str:
    """Return of how many rows of each split there are predictions: ``12 of 300 rows of train``."""
    parts = []
    for split in splits:
        count = len(joined[split.name].rows)
        parts.append(f"{count:,} of {len(split):,} rows of {split.name}")
    return ", ".join(parts)
