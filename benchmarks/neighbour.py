"""A noisy neighbour: a process on one core that computes and moves memory in bursts."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def neighbour(core: int, seed: int) -> Iterator[None]:
    """Keep one core and the shared memory busy, in bursts of 0.05 to 1 s."""
    process = multiprocessing.get_context("spawn").Process(target=_noise, args=(core, seed))
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _noise(core: int, seed: int) -> None:
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
