"""The caches are emptied by writing to more memory than they hold."""

from __future__ import annotations

from rarefy.pipeline.measure.latency import caches


def test_every_line_of_the_memory_is_written():
    memory = caches.memory()
    caches.empty(memory)
    assert memory.nbytes == caches.SIZE
    assert memory.reshape(-1, 8).sum(axis=1).all()
