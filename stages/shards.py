"""Have a bundle answer many texts in several processes, shard by shard; a killed run resumes."""

from __future__ import annotations

from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Event

import numpy as np
from numpy.typing import NDArray

from pipeline.measure import fresh
from pipeline.stage.split import Split
from pipeline.terms.progress import Progress
from stages import mapped

SHARD = 2000
"""Rows that a process answers."""
WORKER = "stages.shard_worker"
DAY = 24 * 3600.0
"""Seconds for a shard; a large model may take several for a row."""


def answered(
    bundle: Path, split: Split, folder: Path, processes: int, progress: Progress
) -> NDArray[np.float32]:
    """Return a bundle's raw outputs for all rows of a split (units, width), memory-mapped.

    Args:
        bundle: the folder of the bundle.
        split: whose rows are answered.
        folder: keeps the outputs of each shard.
        processes: the shards that are answered at once.
        progress: is told of rows.

    Raises:
        EvidenceError: if a process dies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {start: folder / f"{start}.npy" for start in range(0, len(split), SHARD)}
    missing = [start for start, path in paths.items() if not path.exists()]
    done = len(split) - sum(_shard_rows(split, start) for start in missing)
    ended = Event()
    with ThreadPoolExecutor(processes) as pool:
        futures = {}
        for start in missing:
            future = pool.submit(_answer, bundle, split, start, paths[start], ended)
            futures[future] = start
        try:
            for future in as_completed(futures):
                future.result()
                done += _shard_rows(split, futures[future])
                progress(done, len(split), f"{split.name}: answers of the export")
        finally:
            ended.set()  # an error or a signal ends the processes, too
            pool.shutdown(cancel_futures=True)
    return mapped.written(folder, map(np.load, paths.values()))


def _shard_rows(split: Split, start: int) -> int:
    """Return the number of rows in the shard that begins at row ``start``."""
    return min(SHARD, len(split) - start)


def _answer(bundle: Path, split: Split, start: int, path: Path, ended: Event) -> None:
    """Answer the shard that begins at row ``start`` in a process of its own."""

    def stop_if_ended() -> None:
        if ended.is_set():
            raise CancelledError

    rows = slice(start, start + SHARD)
    pairs = None
    if split.pairs is not None:
        pairs = list(split.pairs[rows])
    request = {
        "bundle": str(bundle),
        "texts": list(split.texts[rows]),
        "pairs": pairs,
        "output": str(path),
    }
    task = f"answering {split.name} from row {start}"
    fresh.call(WORKER, request, what=task, timeout=DAY, threads=1, tick=stop_if_ended)
