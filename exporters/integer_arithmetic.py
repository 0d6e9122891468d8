"""Whether this CPU can add int8 products without overflow.

Without VNNI, x86 adds pairs of uint8 · int8 products in 16 bits, which can saturate. Weights are
then limited to 7 bits. Other architectures add in 32 bits.
"""

from __future__ import annotations

import platform
from pathlib import Path

SAFE_FLAGS = {"avx512_vnni", "avx_vnni", "avx512vnni", "avxvnni", "amx_int8"}


def saturates(cpuinfo: Path = Path("/proc/cpuinfo"), machine: str | None = None) -> bool:
    """Return whether int8 weights need ``reduce_range`` here; True for an unknown x86 CPU."""
    if (machine or platform.machine()).lower() not in ("x86_64", "amd64"):
        return False
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return True
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return not SAFE_FLAGS & set(flags)
