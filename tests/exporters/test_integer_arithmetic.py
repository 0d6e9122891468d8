"""Detect which CPUs need narrower weights."""

from __future__ import annotations

import pytest

from exporters.integer_arithmetic import saturates


@pytest.mark.parametrize(
    ("flags", "machine", "expected"),
    [
        ("fpu avx2 avx512_vnni", "x86_64", False),
        ("fpu avx2 avx_vnni", "x86_64", False),
        ("fpu sse4_2 avx2", "x86_64", True),
        ("fp asimd asimddp", "aarch64", False),
    ],
)
def test_vnni_decides_on_x86(flags, machine, expected, tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    assert saturates(path, machine) is expected


def test_an_unknown_x86_is_taken_for_one_that_saturates(tmp_path):
    assert saturates(tmp_path / "none", "x86_64") is True
