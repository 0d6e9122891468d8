"""A GPU's memory, if its driver reports it."""

from __future__ import annotations

import pytest

from pipeline.measure import device

MEGABYTE = 2**20


@pytest.mark.parametrize(
    ("told", "used"),
    [("echo 120; echo 30", 150 * MEGABYTE), ("echo '[N/A]'", None), ("exit 9", None), (None, None)],
)
def test_the_drivers_word_is_taken_only_where_it_is_a_number(tmp_path, monkeypatch, told, used):
    if told is not None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{told}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert device.used() == used
