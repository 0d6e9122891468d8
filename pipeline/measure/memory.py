"""Peak memory of answering, and the size of what is needed to answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.measure import fresh

PAPERS = ("README.md", "LICENSE", "NOTICE", "SHA256SUMS", "manifest.json", "run.json", "predict.py")
"""Files of a bundle that nobody needs to answer; so are its ``samples/``."""
ROWS = 16


class Peak(NamedTuple):
    """Bytes at the peak: resident on the host, and on the GPU (None where there is none)."""

    host: int
    device: int | None


def peak(
    directory: Path,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    provider: str = "cpu",
    threads: int = 1,
) -> Peak:
    """Return the peak bytes of loading a bundle and answering its longest rows.

    Measured in a fresh process; on the host, less what one with the same imports takes. On a GPU it
    is the rise of the device's memory in use, the provider's own context included, up to when all
    rows are answered: the runtime's arena gives nothing back. Others must leave the GPU alone
    meanwhile, as they must for its times.

    Raises ProviderError and EvidenceError as ``fresh.call`` does.
    """
    longest = sorted(range(len(texts)), key=lambda row: len(texts[row]), reverse=True)[:ROWS]
    request: dict[str, Any] = {
        "directory": str(directory.resolve()),
        "texts": [texts[row] for row in longest],
        "pairs": None if pairs is None else [pairs[row] for row in longest],
        "provider": provider,
        "threads": threads,
    }

    def call(asked: dict[str, Any]) -> dict[str, Any]:
        return fresh.call(
            "pipeline.measure.memory_worker",
            asked,
            what=f"memory of {directory.name}",
            timeout=600,
            threads=threads,
        )

    found, empty = call(request), call(request | {"directory": None})
    return Peak(max(found["peak"] - empty["peak"], 0), found["device"])


def size(directory: Path) -> int:
    """Return the bytes of every file needed to answer, tokenizer and external data included."""
    return sum(
        path.stat().st_size
        for path in directory.rglob("*")
        if path.is_file()
        and path.relative_to(directory).parts[0] != "samples"
        and path.relative_to(directory).as_posix() not in PAPERS
    )
