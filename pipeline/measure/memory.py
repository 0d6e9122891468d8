"""Peak memory of answering, and the size of what is needed to answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.measure import fresh

PAPERS = ("README.md", "LICENSE", "NOTICE", "SHA256SUMS", "manifest.json", "run.json", "predict.py")
"""Files of a bundle that nobody needs to answer; so are its ``samples/``."""
ROWS = 16


def peak(
    directory: Path,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    provider: str = "cpu",
    threads: int = 1,
) -> int:
    """Return the peak resident bytes of loading a bundle and answering its longest rows.

    Measured in a fresh process, less what one with the same imports takes. Raises ProviderError
    and EvidenceError as ``fresh.call`` does.
    """
    longest = sorted(range(len(texts)), key=lambda row: len(texts[row]), reverse=True)[:ROWS]
    request: dict[str, Any] = {
        "directory": str(directory.resolve()),
        "texts": [texts[row] for row in longest],
        "pairs": None if pairs is None else [pairs[row] for row in longest],
        "provider": provider,
        "threads": threads,
    }

    def resident(asked: dict[str, Any]) -> int:
        answer = fresh.call(
            "pipeline.measure.memory_worker",
            asked,
            what=f"memory of {directory.name}",
            timeout=600,
            threads=threads,
        )
        return int(answer["peak"])

    return max(resident(request) - resident(request | {"directory": None}), 0)


def size(directory: Path) -> int:
    """Return the bytes of every file needed to answer, tokenizer and external data included."""
    return sum(
        path.stat().st_size
        for path in directory.rglob("*")
        if path.is_file()
        and path.relative_to(directory).parts[0] != "samples"
        and path.relative_to(directory).as_posix() not in PAPERS
    )
