"""Emptied caches: what was just used is slow to reach again."""

from __future__ import annotations

from pipeline.measure.caches import SIZE, Caches


def test_every_line_of_the_memory_is_written():
    caches = Caches()
    caches.empty()
    assert caches._memory.nbytes == SIZE
    assert caches._memory.reshape(-1, 8).sum(axis=1).all()
