"""Measurements of a long stage, stored so that it resumes after a kill; and how often to save."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.store import disk

WORTH = 20
"""Seconds of work for each second of saving: it takes less than a twentieth of the time."""


def pause(seconds: float, cost: float) -> float:
    """Return the seconds of work from one save to the next; more if saving takes long.

    ``seconds``: the fewest. ``cost``: the seconds that the last save took.
    """
    return max(seconds, WORTH * cost)


class Notes:
    """Values by key, in a JSON file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, Any] = {}
        if path.is_file():
            self.values = json.loads(path.read_text())
        self.seconds_before = float(self.values.get("seconds", 0))
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds of work so far, those before a kill included."""
        return self.seconds_before + time.monotonic() - self.started

    def get(self, key: str, measure: Callable[[], Any]) -> Any:
        """Return the value of a key; if there is none, measure and save it."""
        if key not in self.values:
            self.values[key] = measure()
            self.save()
        return self.values[key]

    def save(self) -> None:
        """Write everything down; the seconds also of work that gives no value."""
        self.values["seconds"] = self.seconds
        disk.write(self.path, self.values)
