"""A run's record that tests can change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def change(file: Path, *at: str, value: Any) -> None:
    values = json.loads(file.read_text())
    node = values
    for key in at[:-1]:
        node = node[key]
    node[at[-1]] = value
    file.write_text(json.dumps(values))
