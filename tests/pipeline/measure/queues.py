"""A worker's queue in simulated time."""

from __future__ import annotations

import math

from rarefy.pipeline.measure.load import worker as load_worker
from rarefy.pipeline.measure.load.session import Load, responses


class Clock:
    """A clock that advances only by sleep and by work."""

    now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def served(sent, lengths, until=math.inf):
    """Simulate one worker with given service times (s), which takes no request after ``until``."""
    clock = Clock()

    def answer(index):
        clock.sleep(lengths[index])
        return True

    found = load_worker.serve(iter(range(len(sent))), sent, answer, until, clock)
    return Load(
        rate=len(sent) / 10,
        workers=1,
        threads=1,
        provider="cpu",
        seconds=10,
        sent=sent,
        response=responses(sent, [one.ended for one in found], until),
        service=[(one.ended - one.began) * 1e3 for one in found],
    )
