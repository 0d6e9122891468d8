"""Compute an artifact's answers on a split, and their metrics with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rarefy.pipeline.measure.predictions.files import decimals
from rarefy.pipeline.model.batches import batches_by_length
from rarefy.pipeline.model.tokens.words import NO_WORD
from rarefy.pipeline.store.artifact import Metric
from rarefy.pipeline.tasks.task import FIRST, NOT_INPUTS
from rarefy.pipeline.terms.metrics import SHARE, known
from rarefy.pipeline.terms.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rarefy.pipeline.data.split import Split
    from rarefy.pipeline.model.runtime.bundle_model import BundleModel
    from rarefy.pipeline.tasks import Task

BATCH = 64
PART = 20_000
"""Rows that are tokens in memory at once: as lists, one of 128 takes 22 kB."""


def checkpoint_answers(
    directory: Path, task: Task, split: Split, progress: Progress, device: str = "cpu"
) -> NDArray[np.float64]:
    """Return a checkpoint's answers (units × columns) in fp32 PyTorch, batched by length."""
    from rarefy.pipeline.model import checkpoint

    config = checkpoint.read_config(directory).to_dict()
    outputs = checkpoint_outputs(directory, task, split, progress, device)
    predictions = task.of_model(config).head.predictions(outputs)
    return task.scorer.retained(predictions, split)


def checkpoint_outputs(
    directory: Path, task: Task, split: Split, progress: Progress, device: str = "cpu"
) -> NDArray[np.float64]:
    """Return a checkpoint's raw outputs: units × width."""
    import numpy as np

    from rarefy.pipeline.data import development_split
    from rarefy.pipeline.model import checkpoint

    model = checkpoint.load(directory).to(device)
    tokenizer = checkpoint.load_tokenizer(directory)
    starts = range(0, len(split), PART)
    parts = [split]
    if (
        len(starts) > 1 and not task.reader.singly
    ):  # those that are read singly come column by column
        parts = []
        for start in starts:
            rows = range(start, min(start + PART, len(split)))
            parts.append(development_split.picked(split, rows, split.name, split.sha256))
    outputs = []
    for number, part in enumerate(parts):

        def report(done: float, total: float, note: str, number: int = number) -> None:
            progress(number * total + done, len(parts) * total, note)

        outputs.append(_outputs(model, tokenizer, task, part, report, device))
    if len(outputs) == 1:
        return outputs[0]
    return np.concatenate(outputs)


def _outputs(
    model: Any, tokenizer: Any, task: Task, split: Split, progress: Progress, device: str
) -> NDArray[np.float64]:
    import numpy as np
    import torch

    rows = task.encoder.encode_requests(tokenizer, split)
    counts = [task.encoder.count_units(row) for row in rows]
    firsts = np.concatenate([[0], np.cumsum(counts)])
    lengths = [len(row["input_ids"]) for row in rows]
    outputs = np.empty((int(firsts[-1]), task.head.width(model)))
    done = 0
    with torch.inference_mode():
        for places in batches_by_length(lengths, BATCH):
            batch = _batch(tokenizer, [rows[place] for place in places], device)
            units = [np.arange(firsts[place], firsts[place + 1]) for place in places]
            answers = task.head.outputs(model, batch)
            outputs[np.concatenate(units)] = answers.float().cpu().numpy()
            done += len(places)
            progress(done, len(rows), "scoring")
    return task.encoder.merge_windows(outputs, rows)


def _batch(tokenizer: Any, rows: Sequence[dict[str, Any]], device: str) -> dict[str, Any]:
    """Return rows as tensors, padded on the right to the longest, as in training and in bundles.

    Whatever side the tokenizer names: there, positions and the places of words count from the left.
    """
    import torch

    inputs = []
    for row in rows:
        inputs.append({key: value for key, value in row.items() if key not in NOT_INPUTS})
    padded = tokenizer.pad(inputs, return_tensors="pt", padding_side="right")
    batch = dict(padded.to(device))
    words: list[list[int]] = [row[FIRST] for row in rows if FIRST in row]
    if not words:
        return batch
    firsts = torch.full((len(rows), max(map(len, words))), NO_WORD)
    for number, places in enumerate(words):
        firsts[number, : len(places)] = torch.tensor(places, dtype=torch.long)
    batch[FIRST] = firsts.to(device)
    return batch


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
    from rarefy.pipeline.model.runtime.bundle_model import BundleModel

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
    """Return scores of answers (units × columns) with intervals, as stored in a manifest.

    Shares that no row counts for, such as the entity F1 of rows without entities, are left out.
    """
    from rarefy.pipeline.measure.statistics import scores

    rows = len(task.scorer.correct(answers, truth))
    numbers = []
    for name in names:
        interval = scores.alone(task, name, answers, truth, groups=groups)
        if math.isnan(interval.value) and known(name).ends == SHARE:
            continue
        numbers.append(Metric(name=name, split=split, n=rows, **interval._asdict()))
    return tuple(numbers)


def main_score(task: Task, predictions: NDArray[np.float64], split: Split) -> Metric | None:
    """Return the main score of predictions (units, width) for a split's rows, without an interval.

    None if it is not a number, such as a correlation of equal scores.
    """
    import numpy as np

    scorer = task.scorer
    answers = scorer.retained(predictions, split)
    truth = scorer.truth(split)
    formulas = scorer.formulas(truth)
    main = next(iter(formulas))
    score = formulas[main](answers, truth)
    blocks = len(scorer.correct(answers, truth))
    equally = np.ones((1, blocks))
    value = float(score(equally)[0])
    if not math.isfinite(value):
        return None
    return Metric(name=main, split=split.name, value=round(value, 6), n=blocks)


def as_table(answers: NDArray[np.float64]) -> list[list[float]]:
    """Return answers as nested lists, rounded so equal answers serialize to equal bytes."""
    table: list[list[Any]] = answers.round(decimals(answers)).tolist()
    return table
