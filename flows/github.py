"""What a GitHub Actions job shows besides its log: a summary, outputs and annotations."""

from __future__ import annotations

import os
import re
import stat
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

import rich_click as click

SUMMARY_BYTES = 1024 * 1024
"""GitHub drops a step's summary if it is larger."""
CUT = (
    "\n\n*Truncated: GitHub shows at most 1 MiB of a step's summary. "
    "summary.md has the full text.*\n"
)


_COMMAND = re.compile(r"(^|[\r\n\x0b\x0c\x85\u2028\u2029])(\s*):(?=:)|##(?=\[)")
"""What the runner takes for a command: ``::`` at the start of a line, and ``##[`` anywhere."""


class _Guarded:
    """A stream whose text holds no workflow command; ``unguarded`` is the stream below it."""

    def __init__(self, stream: TextIO) -> None:
        self.unguarded = stream

    def write(self, text: str) -> int:
        return self.unguarded.write(harmless(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unguarded, name)


def harmless(text: str) -> str:
    """Return a text in which no line is a workflow command: ``::`` becomes ``: :``."""
    return _COMMAND.sub(lambda match: f"{match[0]} ", text)


@contextmanager
def guarded() -> Iterator[None]:
    """In a job, print nothing that the runner would take for a command, except by ``annotate``.

    A column's name or a label may contain a line break, or be wrapped where a line begins. Output
    that goes to a file is not changed, because the runner does not read it.
    """
    if not active():
        yield
        return
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("TextIO", _guard(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _guard(stream: TextIO) -> object:
    try:
        to_file = stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        to_file = False
    return stream if to_file else _Guarded(stream)


def active() -> bool:
    """Return whether this process runs in a GitHub Actions job."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def annotate(commands: Iterable[str]) -> None:
    """Print workflow commands on stderr, which the runner also reads: stdout is for data."""
    if active():
        for command in commands:
            click.echo(command, file=getattr(sys.stderr, "unguarded", sys.stderr))


def summarize(text: str) -> None:
    """Append Markdown to the step's summary, truncated to what GitHub shows."""
    name = os.environ.get("GITHUB_STEP_SUMMARY")
    if not name:
        return
    path = Path(name)
    room = SUMMARY_BYTES
    if path.exists():
        room -= path.stat().st_size
    if len(text.encode()) > room:
        text = _cut(text, room)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def _cut(text: str, room: int) -> str:
    """Return a text that is cut to so many bytes, with a note; "" if not a line fits."""
    size = max(0, room - len(CUT.encode()))
    start = text.encode()[:size].decode(errors="ignore")
    lines, newline, _ = start.rpartition("\n")
    # Cut at a line's end: half a line could be half a table row.
    return lines + CUT if newline else ""


def output(values: Mapping[str, str]) -> None:
    """Set outputs for the job's next steps."""
    name = os.environ.get("GITHUB_OUTPUT")
    if not name:
        return
    with Path(name).open("a", encoding="utf-8") as file:
        for key, value in values.items():
            end = f"end-{uuid.uuid4().hex}"
            file.write(f"{key}<<{end}\n{value}\n{end}\n")
