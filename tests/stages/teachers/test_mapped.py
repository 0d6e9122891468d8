"""Raw outputs on disk: what was written, without its memory."""

from __future__ import annotations

import errno
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from rarefy.stages.teachers import mapped

FULL = Path("/dev/full")


def test_parts_come_back_one_after_another(tmp_path):
    parts = [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((4, 3), np.float32)]
    found = mapped.written(tmp_path, parts)
    assert (found == np.concatenate(parts)).all()
    found[1] = 7
    assert (found[1] == 7).all()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_no_file_to_map(tmp_path):
    assert mapped.written(tmp_path, []).shape == (0, 0)
    assert mapped.written(tmp_path, [np.empty((0, 3), np.float32)]).shape == (0, 3)
    assert mapped.opened(tmp_path / "none", 0, 2).shape == (0, 2)


def test_outputs_take_no_memory_of_the_process(tmp_path):
    tracemalloc.start()
    try:
        found = mapped.written(tmp_path, (np.full((1000, 10), n, np.float32) for n in range(100)))
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.nbytes == 4_000_000
    assert held < 100_000
    assert most < 200_000, "one part at a time"
    assert found[-1, 0] == 99


@pytest.mark.skipif(not FULL.exists(), reason="this system has no disk that is full")
def test_a_full_disk_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: FULL.open("wb"))
    with pytest.raises(OSError) as caught:
        mapped.written(tmp_path, [np.ones((1000, 2), np.float32)])
    assert caught.value.errno == errno.ENOSPC
