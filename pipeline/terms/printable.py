"""Texts of others as they may be shown: without characters that a terminal or a reader obeys.

A label, a file's name or another store's ``run.json`` may hold any character. The escape character
begins commands to a terminal, and others turn the direction of writing or end a line.
"""

from __future__ import annotations

import re
from typing import Final

INSTEAD: Final = "\ufffd"
_CONTROLS: Final = re.compile(
    "[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]|\r(?!\n)"
)
"""Controls but for tabs and line ends, and marks that turn what follows them around."""


def printable(text: str, instead: str = INSTEAD) -> str:
    """Return a text with ``instead`` for each control character; lines and tabs stay."""
    return _CONTROLS.sub(instead, text)


def escaped_json(text: str) -> str:
    """Return JSON in which control characters are escapes, so that it says the same."""
    return _CONTROLS.sub(_escape, text)


def _escape(control: re.Match[str]) -> str:
    number = ord(control[0])
    return f"\\u{number:04x}"
