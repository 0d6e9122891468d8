"""The folder that holds a project's state."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rarefy.pipeline.store.store import Store

VARIABLE: Final = "RAREFY_HOME"
"""The environment variable with the folder of those who name none."""
DEFAULT: Final = ".rarefy"
"""The folder if the variable is not set, either."""
HISTORY: Final = "history.sqlite"
"""The file with the history of verdicts."""


@dataclass(frozen=True)
class Home:
    """The folder that holds a project's state: artifacts, run reports, Prefect's database."""

    path: Path

    @classmethod
    def of(cls, folder: Path | str | None) -> Home:
        """Return the home in a folder; None: that of the environment, or the default."""
        if folder is None:
            folder = os.environ.get(VARIABLE) or DEFAULT
        return cls(Path(folder).expanduser())

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    @property
    def prefect(self) -> Path:
        return self.path / "prefect"

    def make(self) -> None:
        """Make the folder if it is not there, with a file that keeps it out of git.

        It gets rows of the data and weights. Raises what ``disk.placing`` raises.
        """
        from rarefy.pipeline.store import disk

        if self.path.exists():
            return
        ignored = self.path / ".gitignore"
        with disk.placing(ignored):
            ignored.write_text("*\n", encoding="utf-8")

    def folders(self, reference: str) -> list[Path]:
        """Return the folders that a run's name or path may mean, in the order to look there.

        A bare name is a run's before it is a folder's; with a slash, it is a path.
        """
        path = Path(reference)
        if path.name != reference:
            return [path]
        return [self.runs / path, path]

    def store(self, *, fresh: bool = False, remote: str | None = None) -> Store:
        """Return the store; a ``fresh`` one believes no earlier work.

        With the URL of a ``remote`` store, it also finds the work of other machines.
        """
        self.make()
        if remote is not None:
            from rarefy.pipeline.store.remote.shared_store import Shared

            return Shared(self.path / "store", remote)
        if fresh:
            from rarefy.pipeline.store.fresh import Fresh

            return Fresh(self.path / "store")
        from rarefy.pipeline.store.store import Store  # imported late to keep --help fast

        return Store(self.path / "store")
