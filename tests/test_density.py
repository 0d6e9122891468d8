"""Code stays readable: no file gets denser than it was, and none is packed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.density import count, files, total

RECORD = Path(__file__).with_name("density.json")
"""The density of each file that holds more than ``PLAIN``; ``python -m tests.test_density``."""
PLAIN = 7.4
"""Nodes a statement. The whole may not exceed it, and a file at or below it may vary."""
PACKED = 10.0
"""Nodes a statement that no file may exceed."""


def test_the_whole_is_plain() -> None:
    assert round(total(files().values()).density, 2) <= PLAIN


def test_no_file_is_packed_or_denser_than_it_was() -> None:
    record = json.loads(RECORD.read_text())
    denser = {}
    for path, number in files().items():
        limit = min(record.get(path, PLAIN), PACKED)
        if round(number.density, 2) > limit:
            denser[path] = f"{number.density:.2f}, at most {limit}"
    assert denser == {}, "unfold them, or record a lower number with python -m tests.test_density"


@pytest.mark.parametrize(
    ("source", "nodes", "statements"),
    [
        ("x = 1 + 2", 0, 0),
        ("def f():\n    return 1", 2, 1),
        ("def f():\n    'A docstring.'\n    return 1", 2, 1),
        ("def f():\n    def g():\n        'Inner.'\n        return 1\n    return g", 5, 3),
        ("class A:\n    def f(self):\n        return self.x + 1", 5, 1),
    ],
)
def test_nodes_and_statements_are_counted_in_bodies_without_docstrings(
    source: str, nodes: int, statements: int
) -> None:
    number = count(source)
    assert (number.nodes, number.statements) == (nodes, statements)


def record() -> None:
    """Write the density of each file above ``PLAIN``; a file that got denser is refused."""
    before = json.loads(RECORD.read_text()) if RECORD.exists() else None
    now = {path: round(number.density, 2) for path, number in files().items()}
    above = {path: density for path, density in sorted(now.items()) if density > PLAIN}
    if before is not None:
        worse = [path for path, density in above.items() if density > before.get(path, PLAIN)]
        if worse:
            sys.exit(f"denser than recorded; unfold them: {', '.join(worse)}")
    RECORD.write_text(json.dumps(above, indent=1) + "\n")


if __name__ == "__main__":
    record()
