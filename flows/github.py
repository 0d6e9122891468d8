"""What a GitHub Actions job shows besides its log: a summary, outputs and annotations."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

import rich_click as click

SUMMARY_BYTES = 1024 * 1024
"""GitHub drops a step's summary if it is larger."""
CUT = (
    "\n\n*Truncated: GitHub shows at most 1 MiB of a step's summary. "
    "summary.md has the full text.*\n"
)


def active() -> bool:
    """Return whether this process runs in a GitHub Actions job."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def annotate(commands: Iterable[str]) -> None:
    """Print workflow commands on stderr, which the runner also reads: stdout is for data."""
    if active():
        for command in commands:
            click.echo(command, err=True)


def summarize(text: str) -> None:
    """Append Markdown to the step's summary, truncated to what GitHub shows."""
    name = os.environ.get("GITHUB_STEP_SUMMARY")
    if not name:
        return
    path = Path(name)
    room = SUMMARY_BYTES - (path.stat().st_size if path.exists() else 0)
    if len(text.encode()) > room:
        kept = text.encode()[: max(0, room - len(CUT.encode()))].decode(errors="ignore")
        # Cut at a line's end: half a line could be half a table row.
        text = kept[: kept.rfind("\n")] + CUT if "\n" in kept else ""
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def output(values: Mapping[str, str]) -> None:
    """Set outputs for the job's next steps."""
    name = os.environ.get("GITHUB_OUTPUT")
    if not name:
        return
    with Path(name).open("a", encoding="utf-8") as file:
        for key, value in values.items():
            end = f"end-{uuid.uuid4().hex}"
            file.write(f"{key}<<{end}\n{value}\n{end}\n")
