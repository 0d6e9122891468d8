"""A copy of a finished run, to promote and roll back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rarefy.pipeline.store.store import Store
from tests.project import Project, Said, bundle_digest


@dataclass(frozen=True)
class Desk:
    """A copy of a finished run that can be promoted and whose record can be changed."""

    home: Path
    digest: str
    rarefy: Callable[..., Said]

    @property
    def store(self) -> Store:
        return Store(self.home / "store")

    @property
    def run(self) -> Path:
        return self.home / "runs" / "tiny"

    @property
    def production(self) -> str | None:
        return self.store.tags().get("production")

    def record(self, change: Callable[[dict[str, Any]], Any]) -> None:
        path = self.run / "run.json"
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))

    def verdict(self, outcome: str, **changes: Any) -> None:
        """Set the outcome of the verdict and of its first budget."""
        self.record(lambda values: values["verdict"].update({"outcome": outcome} | changes))
        self.record(lambda values: values["verdict"]["budgets"][0].update({"outcome": outcome}))


@pytest.fixture
def desk(
    made: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rarefy: Callable[..., Said]
) -> Desk:
    home = tmp_path / "home"
    shutil.copytree(made.home, home)
    (home / "history.sqlite").unlink(missing_ok=True)  # other tests have judged this bundle
    monkeypatch.setenv("RAREFY_HOME", str(home))
    return Desk(home, bundle_digest(made), rarefy)
