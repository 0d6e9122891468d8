"""Measurements of a long stage, kept so that it goes on after a kill; and how often to save."""

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

    ``seconds``: the fewest. ``cost``: what the last save took.
    """
    return max(seconds, WORTH * cost)


class Notes:
    """Values by key, in a JSON file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        self.before, self.started = float(self.values.get("seconds", 0)), time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds of work so far, those before a kill included."""
        return self.before + time.monotonic() - self.started

    def get(self, key: str, measure: Callable[[], Any]) -> Any:
        """Return what is noted under a key; if there is nothing, measure it and note it."""
        if key not in self.values:
            self.values[key] = measure()
            self.save()
        return self.values[key]

    def save(self) -> None:
        """Write everything down; the seconds also of work that gives no value."""
        self.values["seconds"] = self.seconds
        disk.write(self.path, self.values)
