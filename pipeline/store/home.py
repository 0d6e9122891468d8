"""The project's state folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.store.store import Store


@dataclass(frozen=True)
class Home:
    """The project's state folder: artifacts, reports of runs, Prefect's database."""

    path: Path

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    @property
    def prefect(self) -> Path:
        return self.path / "prefect"

    def store(self) -> Store:
        from pipeline.store.store import Store  # not at the top: help must be there at once

        return Store(self.path / "store")
