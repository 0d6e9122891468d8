"""What ``benchmarks.hostile`` tries: each attack changes a project and runs one command in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Change = Callable[[Path], None]
"""Makes a project hostile; the argument is its folder."""
REFUSED = (2, 5, 6)
"""Exit codes of what is refused: wrong input, what this machine lacks, damage."""
ANY = (0, *REFUSED)
"""Of what may be harmless, such as one changed number of a config."""


@dataclass(frozen=True)
class Attack:
    """One attack.

    ``codes``: the exit codes that are right. ``secret``: what no output and no file may contain.
    ``as_nobody``: run by a user who may read the project, but not what is locked.
    """

    name: str
    change: Change
    command: tuple[str, ...]
    codes: tuple[int, ...] = REFUSED
    secret: str | None = None
    as_nobody: bool = False


def nothing(project: Path) -> None:
    """Change nothing: the attack is in the command."""
