"""A worker's queue in simulated time."""

from __future__ import annotations

from pipeline.measure import load_worker
from pipeline.measure.load import Load


class Clock:
    """A clock that advances only by sleep and by work."""

    now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def served(sent, lengths):
    """Simulate one worker with given service times; return response and service times in ms."""
    clock = Clock()

    def answer(index):
        clock.sleep(lengths[index])
        return True

    found = load_worker.serve(iter(range(len(sent))), sent, answer, clock)
    return Load(
        rate=len(sent) / 10,
        workers=1,
        threads=1,
        provider="cpu",
        seconds=10,
        sent=sent,
        response=[(one.ended - sent[one.request]) * 1e3 for one in found],
        service=[(one.ended - one.began) * 1e3 for one in found],
    )
