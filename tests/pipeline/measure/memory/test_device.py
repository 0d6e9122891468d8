"""A GPU's memory, if its driver reports it."""

from __future__ import annotations

import pytest

from rarefy.pipeline.measure.machine import fingerprint
from rarefy.pipeline.measure.memory import device

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


@pytest.mark.parametrize(
    ("visible", "order", "gpus", "asked"),
    [
        (None, None, ["L4"], "--id 0"),
        ("1,0", None, ["L4", "L4"], "--id 1"),
        ("1", None, ["L4", "A100"], ""),  # CUDA counts the fastest first, the driver by its place
        ("1", "PCI_BUS_ID", ["L4", "A100"], "--id 1"),
        ("GPU-3f", None, ["L4", "A100"], "--id GPU-3f"),
        ("MIG-3f", None, ["A100"], ""),
    ],
)
def test_the_device_that_is_used_is_asked_for(monkeypatch, visible, order, gpus, asked):
    for name, value in (("CUDA_VISIBLE_DEVICES", visible), ("CUDA_DEVICE_ORDER", order)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    monkeypatch.setattr(fingerprint, "gpus", lambda: tuple(gpus))
    assert " ".join(device._first()) == asked
