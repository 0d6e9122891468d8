"""Compute an artifact's answers on a split, and their metrics with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.measure.answers import decimals
from pipeline.model.words import FIRST, NO_WORD
from pipeline.stage.tasks.head import NOT_INPUTS
from pipeline.store.artifact import Metric
from pipeline.terms.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.model.runtime import BundleModel
    from pipeline.stage.split import Split
    from pipeline.stage.tasks import Task

BATCH = 64
PART = 20_000
"""Rows that are tokens in memory at once: as lists, one of 128 takes 22 kB."""


def checkpoint_answers(
    directory: Path, task: Task, split: Split, progress: Progress, device: str = "cpu"
) -> NDArray[np.float64]:
    """Return a checkpoint's answers (units × columns) in fp32 PyTorch, batched by length."""
    from pipeline.model import checkpoint

    config = checkpoint.read_config(directory).to_dict()
    outputs = checkpoint_outputs(directory, task, split, progress, device)
    predictions = task.of_model(config).head.predictions(outputs)
    return task.scorer.retained(predictions, split)


def checkpoint_outputs(
    directory: Path, task: Task, split: Split, progress: Progress, device: str = "cpu"
) -> NDArray[np.float64]:
    """Return a checkpoint's raw outputs: units × width."""
    import numpy as np

    from pipeline.model import checkpoint
    from pipeline.stage import development

    model = checkpoint.load(directory).to(device)
    tokenizer = checkpoint.load_tokenizer(directory)
    starts = range(0, len(split), PART)
    parts = [split]
    # Texts that are read singly come column by column.
    if len(starts) > 1 and not task.reader.singly:
        ranges = [range(start, min(start + PART, len(split))) for start in starts]
        parts = [development.picked(split, rows, split.name, split.sha256) for rows in ranges]
    outputs = []
    for number, part in enumerate(parts):

        def said(done: float, total: float, note: str, number: int = number) -> None:
            progress(number * total + done, len(parts) * total, note)

        outputs.append(_outputs(model, tokenizer, task, part, said, device))
    return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)


def _outputs(
    model: Any, tokenizer: Any, task: Task, split: Split, progress: Progress, device: str
) -> NDArray[np.float64]:
    import numpy as np
    import torch

    rows = task.encoder.encode_requests(tokenizer, split)
    counts = [task.encoder.count_units(row) for row in rows]
    firsts = np.concatenate([[0], np.cumsum(counts)])
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]["input_ids"]))
    result = np.empty((int(firsts[-1]), task.head.width(model)))
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            batch = _batch(tokenizer, [rows[row] for row in chosen], device)
            places = np.concatenate([np.arange(firsts[row], firsts[row + 1]) for row in chosen])
            result[places] = task.head.outputs(model, batch).float().cpu().numpy()
            progress(start + len(chosen), len(order), "scoring")
    return task.encoder.merge_windows(result, rows)


def _batch(tokenizer: Any, rows: Sequence[dict[str, Any]], device: str) -> dict[str, Any]:
    """Return rows as tensors, padded on the right to the longest, as in training and in bundles.

    Whatever side the tokenizer names: there, positions and the places of words count from the left.
    """
    import torch

    places: list[list[int]] = [row[FIRST] for row in rows if FIRST in row]
    inputs = [{key: row[key] for key in row if key not in NOT_INPUTS} for row in rows]
    batch = dict(tokenizer.pad(inputs, return_tensors="pt", padding_side="right").to(device))
    if not places:
        return batch
    padded = torch.full((len(rows), max(map(len, places))), NO_WORD)
    for row, found in enumerate(places):
        padded[row, : len(found)] = torch.tensor(found, dtype=torch.long)
    return batch | {FIRST: padded.to(device)}


def bundle_answers(
    directory: Path,
    task: Task,
    split: Split,
    *,
    provider: str,
    threads: int,
    progress: Progress,
) -> NDArray[np.float64]:
    """Return a bundle's answers (units × columns), one row at a time as in production."""
    from pipeline.model.runtime import BundleModel

    model = BundleModel(directory, provider=provider, threads=threads)
    return model_answers(model, task, split, progress)


def model_answers(
    model: BundleModel, task: Task, split: Split, progress: Progress
) -> NDArray[np.float64]:
    """Return the answers of a bundle that is loaded; see ``bundle_answers``."""
    outputs = model.units(*task.encoder.requests(split), progress=progress)
    predictions = task.of_model(model.config).head.predictions(outputs)
    return task.scorer.retained(predictions, split)


def metrics(
    task: Task,
    names: Iterable[str],
    answers: NDArray[np.float64],
    truth: Sequence[Any],
    split: str,
    groups: Sequence[int] = (),
) -> tuple[Metric, ...]:
    """Return scores of answers (units × columns) with intervals, as stored in a manifest."""
    from pipeline.measure import scores

    rows = len(task.scorer.correct(answers, truth))
    return tuple(
        Metric(
            name=name,
            split=split,
            n=rows,
            **scores.alone(task, name, answers, truth, groups=groups)._asdict(),
        )
        for name in names
    )


def as_table(answers: NDArray[np.float64]) -> list[list[float]]:
    """Return answers as nested lists, rounded so equal answers serialize to equal bytes."""
    table: list[list[Any]] = answers.round(decimals(answers)).tolist()
    return table
