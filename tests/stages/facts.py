"""Files of facts, and the words used in them."""

from __future__ import annotations

from pathlib import Path

from tests.models import BAD, FILL, GOOD

WORDS = (*FILL, *GOOD, *BAD, "means", ":", ".", "mood", "good", "bad", "smooth", "rough", "part")


def write_facts(path: Path, rows: list[str]) -> Path:
    path.write_text("".join(f"{row}\n" for row in rows))
    return path
