"""A chain of quick stages, and an undetectable change to a file."""

from __future__ import annotations

import os
from pathlib import Path

CHAIN = ({"quick:Word": {"word": "one"}}, {"quick:Word": {"word": "two"}, "as": "second"})


def flip(path: Path, old: bytes, new: bytes) -> None:
    """Change bytes in place, with the same size and modification time."""
    assert len(old) == len(new)
    path.chmod(0o644)
    times = path.stat()
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
