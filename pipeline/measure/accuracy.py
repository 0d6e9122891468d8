"""Compute an artifact's answers on a split, and their metrics with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.measure.answers import DIGITS
from pipeline.store.artifact import Metric
from pipeline.terms.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.stage.data import Split
    from pipeline.stage.formulas import Formula
    from pipeline.stage.tasks import Task

BATCH = 64


def checkpoint_probabilities(
    directory: Path, task: Task, split: Split, progress: Progress, device: str = "cpu"
) -> NDArray[np.float64]:
    """Return a checkpoint's probabilities (rows × labels) in fp32 PyTorch, batched by length."""
    import numpy as np
    import torch

    from pipeline.model import checkpoint

    model = checkpoint.load(directory).to(device)
    tokenizer = checkpoint.load_tokenizer(directory)
    rows = task.encode(tokenizer, split)
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]["input_ids"]))
    result = np.empty((len(rows), len(task.labels)))
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            batch = tokenizer.pad([rows[row] for row in chosen], return_tensors="pt").to(device)
            logits = model(**batch).logits.float()
            result[chosen] = torch.softmax(logits, dim=-1).double().cpu().numpy()
            progress(start + len(chosen), len(order), "scoring")
    return result


def bundle_probabilities(
    directory: Path, split: Split, *, provider: str, threads: int, progress: Progress
) -> NDArray[np.float64]:
    """Return a bundle's probabilities (rows × labels), one row at a time as in production."""
    from pipeline.model.runtime import BundleModel

    model = BundleModel(directory, provider=provider, threads=threads)
    return model.probabilities(split.texts, split.pairs, progress=progress)


def metrics(
    task: Mapping[str, Formula],
    probabilities: NDArray[np.float64],
    truth: Sequence[int],
    split: str,
) -> tuple[Metric, ...]:
    """Return the scores of answers (rows × labels) with intervals, as stored in a manifest.

    ``task``: score name -> formula.
    """
    import numpy as np

    from pipeline.measure import scores

    labels = np.asarray(truth)
    return tuple(
        Metric(
            name=name,
            split=split,
            n=len(labels),
            **scores.alone(name, probabilities, labels, formula=formula)._asdict(),
        )
        for name, formula in task.items()
    )


def as_table(probabilities: NDArray[np.float64]) -> list[list[float]]:
    """Return probabilities as nested lists, rounded so equal answers serialize to equal bytes."""
    table: list[list[Any]] = probabilities.round(DIGITS).tolist()
    return table
