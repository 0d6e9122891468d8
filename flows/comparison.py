"""Two bundles side by side: answers on the same rows, latencies taken next to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.bundles import Bundle

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.data import Split
    from pipeline.recipe import Target

Progress = Callable[[float, float, str], None]
SEED = 0


@dataclass(frozen=True)
class Effort:
    """What the latency comparison may take: rows of the split, fresh processes, seconds."""

    rows: int
    processes: int
    seconds: float


def compare(
    first: Bundle, second: Bundle, split: Split, target: Target, effort: Effort, progress: Progress
) -> dict[str, Any]:
    """Return B against A: accuracy, agreement, latency, size and parameters, JSON-ready.

    Differences are B − A, ``speedup`` is A's median latency over B's. Intervals are at 95 %.
    """
    import numpy as np

    from pipeline.measure import accuracy, memory

    options: dict[str, Any] = {"provider": target.provider, "threads": target.threads}
    sides = {"A": first, "B": second}
    answers = {
        name: accuracy.bundle_probabilities(side.directory, split, progress=progress, **options)
        for name, side in sides.items()
    }
    models = {
        name: {
            "name": side.name,
            "digest": side.digest,
            "size": memory.size(side.directory),
            "parameters": side.manifest.model.get("parameters") if side.manifest else None,
        }
        for name, side in sides.items()
    }
    return {
        "models": models,
        "rows": len(split),
        "accuracy": agreement(answers["A"], answers["B"], np.asarray(split.labels)),
        "latency": latencies(
            {name: side.directory for name, side in sides.items()}, split, target, effort, progress
        ),
    }


def agreement(
    first: NDArray[np.float64], second: NDArray[np.float64], truth: NDArray[np.int64]
) -> dict[str, Any]:
    """Return both accuracies, their paired difference, McNemar's test, and how many rows flip."""
    from pipeline.measure import statistics

    a, b = statistics.answers(first), statistics.answers(second)
    rows = len(truth)
    gains = int(((a != truth) & (b == truth)).sum())
    losses = int(((a == truth) & (b != truth)).sum())
    same = int((a == b).sum())
    return {
        "A": statistics.wilson(int((a == truth).sum()), rows)._asdict(),
        "B": statistics.wilson(int((b == truth).sum()), rows)._asdict(),
        "difference": statistics.paired_difference(gains, losses, rows)._asdict(),
        "mcnemar_p": statistics.mcnemar(gains, losses),
        "agreement": statistics.wilson(same, rows)._asdict(),
        "gains": gains,
        "losses": losses,
        "flips": rows - same,
    }


def latencies(
    directories: dict[str, Path], split: Split, target: Target, effort: Effort, progress: Progress
) -> dict[str, Any]:
    """Return each one's median on rows of the split in ms, and how many times faster B is."""
    import numpy as np

    from pipeline.measure import latency, statistics

    count = min(effort.rows, len(split))
    rows = np.random.default_rng(SEED).choice(len(split), count, replace=False)
    found = latency.measure(
        directories,
        [split.texts[row] for row in rows],
        None if split.pairs is None else [split.pairs[row] for row in rows],
        provider=target.provider,
        threads=target.threads,
        processes=effort.processes,
        seconds=effort.seconds,
        seed=SEED,
        progress=progress,
    )
    medians = {
        f"{name}_p50": statistics.percentile_interval(samples, 50, SEED)._asdict()
        for name, samples in found.samples.items()
    }
    speedup = statistics.percentile_ratio(found.samples["A"], found.samples["B"], 50, SEED)
    return medians | {
        "speedup": speedup._asdict(),
        "noise": found.noise,
        "busy": found.busy,
        "provider": target.provider,
        "threads": target.threads,
    }
