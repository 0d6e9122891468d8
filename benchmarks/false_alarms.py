"""A/A test: compare an int8 bundle with itself, half the time next to a noisy neighbour.

    python -m benchmarks.false_alarms       25 to 45 minutes; needs two cores and `make demo`

Each trial also runs Olive's default procedure (``olive_default``) right after, for comparison. A
run that was stopped goes on, at the same commit.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import bundle, olive_default
from benchmarks.record import Claim, finish, load_or_make, trials_of_now
from rarefy.pipeline.measure import machine
from rarefy.pipeline.measure.latency import compare as gate

MARGIN, SECONDS, ALLOWED = 0.05, 60.0, 2
ALARMS = ("regression", "improvement")


@contextlib.contextmanager
def neighbour(core: int, seed: int) -> Iterator[None]:
    """Keep one core and the shared memory busy, in bursts of 0.05 to 1 s."""
    process = multiprocessing.get_context("spawn").Process(target=make_noise, args=(core, seed))
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def make_noise(core: int, seed: int) -> None:
    """Compute and move memory in bursts, for ever."""
    import numpy as np

    os.sched_setaffinity(0, {core})
    chance = random.Random(seed)
    block = np.ones(8_000_000)
    matrix = np.ones((200, 200))
    while True:
        until = time.monotonic() + chance.uniform(0.05, 1)
        while time.monotonic() < until:
            block[:] = block[::-1]
            matrix = np.clip(matrix @ matrix, 0, 1)
        time.sleep(chance.uniform(0.05, 0.5))


def trial(folder: Path, texts: list[str], seed: int, *, noisy: bool) -> dict[str, Any]:
    """Compare a bundle with itself by both procedures under the same conditions.

    Args:
        folder: the bundle.
        texts: the rows to time.
        seed: of the order of the calls, and of the neighbour's bursts.
        noisy: whether a neighbour is busy meanwhile.

    Returns:
        Both procedures' verdicts, with the ratio and the seconds of ours.
    """
    company: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if noisy:
        company = neighbour(machine.cores()[0], seed)
    with company:
        began = time.monotonic()
        verdict, timed = gate.measure(
            folder, folder, texts, None, MARGIN, seconds=SECONDS, seed=seed
        )
        seconds = time.monotonic() - began
        first = olive_default.measure(folder, texts)
        second = olive_default.measure(folder, texts)
    return {
        "noisy": noisy,
        "rarefy": verdict.change,
        "ratio": [round(value, 4) for value in verdict.ratio],
        "processes": len(timed.samples["baseline"]),
        "seconds": round(seconds, 1),
        "olive": olive_default.call(first, second, MARGIN),
    }


def alarms(verdicts: Counter[str]) -> int:
    """Return how many verdicts call identical bundles different."""
    return sum(verdicts[word] for word in ALARMS)


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Claim that alarms are few, and fewer than Olive's."""
    ours = Counter(row["rarefy"] for row in rows)
    our_alarms = alarms(ours)
    olive_alarms = alarms(Counter(row["olive"] for row in rows))
    noisy = sum(row["noisy"] for row in rows)
    longest = max(row["seconds"] for row in rows)
    few: bool | None = our_alarms <= ALLOWED * len(rows) / 100
    if few and len(rows) < bundle.TRIALS:
        few = None
    return [
        Claim(
            f"identical bundles called a regression or an improvement, {noisy} of {len(rows)} "
            "comparisons next to a noisy neighbour",
            f"at most {ALLOWED} of 100 at a margin of 5 %",
            f"{our_alarms} of {len(rows)}; {ours['equal']} equal, {ours['inconclusive']} "
            f"inconclusive; at most {longest:.0f} s each",
            few,
        ),
        Claim(
            "fewer than Olive's default procedure calls",
            "fewer",
            f"{our_alarms} against {olive_alarms} of {len(rows)}",
            our_alarms < olive_alarms,
        ),
    ]


def main() -> int:
    """Run all trials and record them."""
    options = bundle.arguments(bundle.parser(__doc__ or ""))
    texts = bundle.texts()
    rows = []
    trials = trials_of_now("false_alarms", options.bundle)
    with bundle.progress() as bar:
        for seed in bar.track(range(options.trials), description="A/A"):
            noisy = seed % 2 == 1
            make = partial(trial, options.bundle, texts, seed, noisy=noisy)
            rows.append(load_or_make(trials / f"{seed}.json", make))
    code = finish("false_alarms", rows, claims(rows), seed=0)
    shutil.rmtree(trials)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
