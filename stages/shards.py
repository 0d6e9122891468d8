"""Have a bundle answer many texts in several processes, shard by shard; a killed run goes on."""

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
    """Return a bundle's raw outputs for all rows of a split, units × width, memory-mapped.

    ``folder`` keeps those of each shard. Raises EvidenceError if a process dies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(split), SHARD)
    paths = [folder / f"{start}.npy" for start in starts]
    missing = [
        (start, path) for start, path in zip(starts, paths, strict=True) if not path.exists()
    ]
    done = len(split) - sum(min(SHARD, len(split) - start) for start, _ in missing)
    ended = Event()
    with ThreadPoolExecutor(processes) as pool:
        working = {
            pool.submit(_answer, bundle, split, start, path, ended): start
            for start, path in missing
        }
        try:
            for each in as_completed(working):
                each.result()
                done += min(SHARD, len(split) - working[each])
                progress(done, len(split), f"{split.name}: answers of the export")
        finally:
            ended.set()  # an error or a signal ends the processes, too
            pool.shutdown(cancel_futures=True)
    return mapped.written(folder, map(np.load, paths))


def _answer(bundle: Path, split: Split, start: int, path: Path, ended: Event) -> None:
    def tick() -> None:
        if ended.is_set():
            raise CancelledError

    rows = slice(start, start + SHARD)
    request = {
        "bundle": str(bundle),
        "texts": list(split.texts[rows]),
        "pairs": None if split.pairs is None else list(split.pairs[rows]),
        "output": str(path),
    }
    what = f"answering {split.name} from row {start}"
    fresh.call(WORKER, request, what=what, timeout=DAY, threads=1, tick=tick)
