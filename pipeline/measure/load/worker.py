"""Run one worker of a load test: take the next request, wait for its sending time, answer it.

Started by ``rarefy.pipeline.measure.load.session`` as ``python -m``; see
``rarefy.pipeline.measure.fresh_process``.
"""

from __future__ import annotations

import fcntl
import gc
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from rarefy.pipeline.measure import fresh_process, machine
from rarefy.pipeline.measure.row_lengths import character_lengths, select_rows
from rarefy.pipeline.model.batches import order_by_length
from rarefy.pipeline.model.runtime.bundle_model import BundleModel

WARM = 30
"""Requests answered before timing starts, including the shortest and the longest row."""
POLL = 0.002
START, COUNTER = "start", "counter"


class Clock(Protocol):
    """The part of the ``time`` module that ``serve`` needs."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float, /) -> None: ...


class Served(NamedTuple):
    """A request's index, when its service began and ended (s), and if its answer is finite."""

    request: int
    began: float
    ended: float
    finite: bool


def serve(
    taken: Iterator[int],
    sent: Sequence[float],
    answer: Callable[[int], bool],
    until: float,
    clock: Clock = time,
) -> list[Served]:
    """Answer each request that is taken, but not before it is sent; take none after ``until``.

    ``sent``: the sending time of each request on the clock. A late worker does not shift later
    requests: their times count from when they should have been sent (Tene, "How not to measure
    latency"). What is taken is answered, so the requests that no worker answers are the last ones.
    """
    served: list[Served] = []
    while clock.monotonic() < until:
        index = next(taken, None)
        if index is None:
            return served
        ahead = sent[index] - clock.monotonic()
        if ahead > 0:
            clock.sleep(ahead)
        began = clock.monotonic()
        finite = answer(index)
        served.append(Served(index, began, clock.monotonic(), finite))
    return served


def take(counter: Path, count: int) -> Iterator[int]:
    """Yield the indices below ``count`` that no other process has taken, in ascending order."""
    with counter.open("r+b", buffering=0) as file:
        while True:
            fcntl.flock(file, fcntl.LOCK_EX)
            index = int.from_bytes(os.pread(file.fileno(), 8, 0), "little")
            os.pwrite(file.fileno(), (index + 1).to_bytes(8, "little"), 0)
            fcntl.flock(file, fcntl.LOCK_UN)
            if index >= count:
                return
            yield index


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Load the bundle, warm up, wait for the common start and serve; return what was served."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, request["cores"])
    texts, pairs, rows = request["texts"], request["pairs"], request["rows"]
    provider, threads = request["provider"], request["threads"]
    model = BundleModel(Path(request["directory"]), provider=provider, threads=threads)

    def answer(row: int) -> bool:
        outputs = model.units(*select_rows(texts, pairs, [row]))
        return bool(np.isfinite(outputs).all())

    by_length = order_by_length(character_lengths(texts, pairs))
    step = max(1, len(texts) // WARM)
    for row in (by_length[0], by_length[-1], *by_length[::step]):
        answer(row)
    gc.collect()
    gc.disable()
    folder = Path(request["folder"])
    begin = wait_for_start(folder, request["number"])
    if begin is None:
        return {"served": [], "used": 0.0, "switches": 0}
    taken = take(folder / COUNTER, len(rows))
    sent = [begin + moment for moment in request["sent"]]
    until = begin + request["until"]
    before = machine.snapshot()
    served = serve(taken, sent, lambda index: answer(rows[index]), until)
    after = machine.snapshot()
    since_start = []
    for reply in served:
        began, ended = reply.began - begin, reply.ended - begin
        since_start.append((reply.request, began, ended, reply.finite))
    cpu = after.process - before.process
    switches = after.switches - before.switches
    return {"served": since_start, "used": cpu, "switches": switches}


def wait_for_start(folder: Path, number: int) -> float | None:
    """Report that this worker is ready; return the common start time on the monotonic clock.

    Returns None if another worker failed and the test is cancelled.
    """
    (folder / f"ready-{number}").touch()
    while not (folder / START).exists():
        time.sleep(POLL)
    moment = (folder / START).read_text()
    return float(moment) if moment else None


if __name__ == "__main__":
    fresh_process.serve(run)
