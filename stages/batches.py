"""Batches that are written down as they are made, so that a killed run goes on after the last."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def kept(path: Path, make: Callable[[int], Any]) -> Iterator[Any]:
    """Yield ``make(0)``, ``make(1)`` …, without end; first those that a killed run wrote down.

    A batch is what JSON holds, a line each. The last line may be torn: it is made again.
    """
    path.touch()
    number, whole = 0, 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            number, whole = number + 1, whole + len(line)
            yield json.loads(line)
    os.truncate(path, whole)
    with path.open("a", encoding="utf-8") as file:
        while True:
            batch = make(number)
            file.write(json.dumps(batch) + "\n")
            file.flush()
            number += 1
            yield batch
