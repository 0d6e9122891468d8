"""Measure the peak memory of a process or a bundle, and the size of the files that it needs."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from rarefy.pipeline.measure import fresh_process
from rarefy.pipeline.measure.row_lengths import character_lengths, select_rows

PAPERS = (
    *("README.md", "LICENSE", "NOTICE", "SHA256SUMS", "manifest.json", "run.json"),
    *("predict.py", "predict_session.py", "predict_task.py", "predict_adapter.py"),
)
"""Files of a bundle that are not needed to answer; neither are ``samples/`` and ``task_*.py``."""
ROWS = 16
PROCESS: Final = Path("/proc/self")


class Peak(NamedTuple):
    """Peak memory in bytes: resident on the host, and on the GPU (None if there is none).

    ``adapter``: what each further adapter adds on the host; None if the bundle's is not a file.
    """

    host: int
    device: int | None
    adapter: int | None = None


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
    the GPU meanwhile. A bundle whose adapter is a file is loaded with that one; then the same file
    is loaded again as further adapters.

    Raises ProviderError and EvidenceError as ``fresh_process.call`` does.
    """
    characters = character_lengths(texts, pairs)
    longest_first = sorted(range(len(texts)), key=characters.__getitem__, reverse=True)
    longest, second = select_rows(texts, pairs, longest_first[:ROWS])
    request: dict[str, Any] = {
        "directory": str(directory.resolve()),
        "texts": longest,
        "pairs": second,
        "provider": provider,
        "threads": threads,
    }

    def call() -> dict[str, Any]:
        return fresh_process.call(
            "rarefy.pipeline.measure.memory.memory_worker",
            request,
            what=f"memory of {directory.name}",
            timeout=600,
            threads=threads,
            remedy="; write validate: {memory: false}, or shorten the rows (data.max_length)",
        )

    loaded = call()
    request["directory"] = None
    imports_only = call()
    host = loaded["peak"] - imports_only["peak"]
    return Peak(max(host, 0), loaded["device"], loaded["adapter"])


def size(directory: Path) -> int:
    """Return the bytes of all files needed to answer, including tokenizer and external data."""
    total = 0
    for path in directory.rglob("*"):
        inside = path.relative_to(directory)
        needed = inside.parts[0] != "samples" and inside.as_posix() not in PAPERS
        needed = needed and not inside.match("task_*.py")
        if needed and path.is_file():
            total += path.stat().st_size
    return total


def peak_of_process() -> int:
    """Return the peak resident set of this program in bytes; 0 on Windows, which is not asked.

    On Linux, ``ru_maxrss`` is inherited through fork and exec, so it could be that of the parent
    process. VmHWM belongs to this program alone.
    """
    status = PROCESS / "status"
    if not status.exists():
        return _resident(subprocesses=False)
    line = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
    if line:
        return int(line[1]) * 1024
    return _resident(subprocesses=False)


class PeakMeter:
    """The peak memory of this process, and of its subprocesses that have ended, from now on.

    Where the peak cannot be reset, as on macOS, it is that since the process began.
    """

    def __init__(self) -> None:
        with suppress(OSError):
            (PROCESS / "clear_refs").write_text("5")  # resets VmHWM: proc_pid_clear_refs(5)
        self._subprocesses = _resident(subprocesses=True)

    def read(self) -> int:
        """Return the bytes of the largest process at its peak.

        A subprocess that is smaller than one before the measurement does not count.
        """
        subprocesses = _resident(subprocesses=True)
        if subprocesses == self._subprocesses:
            return peak_of_process()
        return max(subprocesses, peak_of_process())


def _resident(*, subprocesses: bool) -> int:
    """Return the peak bytes of this process, or of the largest subprocess that has ended."""
    if sys.platform == "win32":
        return 0
    import resource

    who = resource.RUSAGE_CHILDREN if subprocesses else resource.RUSAGE_SELF
    peak = resource.getrusage(who).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
