"""Measure a bundle's peak memory and the size of the files it needs to answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.measure import fresh, lengths

PAPERS = (
    *("README.md", "LICENSE", "NOTICE", "SHA256SUMS", "manifest.json", "run.json"),
    *("predict.py", "predict_session.py", "predict_task.py"),
)
"""Files of a bundle that are not needed to answer; neither is its ``samples/`` folder."""
ROWS = 16


class Peak(NamedTuple):
    """Peak memory in bytes: resident on the host, and on the GPU (None if there is none)."""

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
    """Return the peak memory in bytes of loading a bundle and answering its longest rows.

    The peak is measured in a fresh process, minus that of a process with the same imports only. On
    a GPU it is the rise of the memory in use until all rows are answered, which includes the
    provider's own context; the runtime's arena never shrinks. As for timings, nothing else may use
    the GPU meanwhile.

    Raises ProviderError and EvidenceError as ``fresh.call`` does.
    """
    own = lengths.of(texts, pairs)
    longest = sorted(range(len(texts)), key=own.__getitem__, reverse=True)[:ROWS]
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
            remedy="; write validate: {memory: false}, or shorten the rows (data.max_length)",
        )

    found, empty = call(request), call(request | {"directory": None})
    return Peak(max(found["peak"] - empty["peak"], 0), found["device"])


def size(directory: Path) -> int:
    """Return the bytes of all files needed to answer, including tokenizer and external data."""
    return sum(
        path.stat().st_size
        for path in directory.rglob("*")
        if path.is_file()
        and path.relative_to(directory).parts[0] != "samples"
        and path.relative_to(directory).as_posix() not in PAPERS
    )
