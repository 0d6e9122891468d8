"""What is shown on a terminal of 80 columns and in a pipe, and what must not break there."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

COLUMNS = 80
ENDLESS = 2000
"""Columns of a terminal on which nothing is wrapped."""
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class _Screen(io.BytesIO):
    def isatty(self) -> bool:
        return True


@dataclass(frozen=True)
class Screens:
    """What the same output is on a terminal of 80 columns, on an endless one, and in a pipe."""

    narrow: str
    endless: str
    pipe: str

    def check(self) -> None:
        """Fail if a word is split, a line is too long for its terminal, or a pipe is wrapped."""
        lines = [line.rstrip() for line in self.narrow.splitlines()]
        long = [line for line in lines if len(line) > COLUMNS]
        assert not long, f"longer than {COLUMNS} columns: {long}"
        # Cells of one row stand side by side, so their words are in another order; and a table
        # that does not fit repeats its headings.
        split = set(_words(self.narrow)) ^ set(_words(self.endless))
        assert not split, f"words that only one of them has: {sorted(split)}"
        assert ESCAPE.search(self.pipe) is None, f"escape codes: {self.pipe!r}"
        assert _lines(self.pipe) == _lines(self.endless), f"wrapped in a pipe: {self.pipe}"


def _words(text: str) -> list[str]:
    """Return the words of a text. A number and its unit may stand on two lines."""
    return text.split()


def _lines(text: str) -> list[str]:
    return [" ".join(_words(line)) for line in text.splitlines()]


def screens(show: Callable[[], object], patch: pytest.MonkeyPatch) -> Screens:
    """Return what a function shows on stdout, which a command or ``show_table`` writes to."""
    return Screens(
        narrow=_shown(show, patch, _Screen(), COLUMNS),
        endless=_shown(show, patch, _Screen(), ENDLESS),
        pipe=_shown(show, patch, io.BytesIO(), COLUMNS),
    )


def _shown(
    show: Callable[[], object], patch: pytest.MonkeyPatch, stream: io.BytesIO, columns: int
) -> str:
    """Return what is shown on a stream; colours are left out on a terminal, but not in a pipe."""
    with patch.context() as inside:
        inside.setattr(sys, "stdout", io.TextIOWrapper(stream, encoding="utf-8"))
        inside.setenv("COLUMNS", str(columns))
        inside.setenv("TERM", "xterm")
        inside.delenv("NO_COLOR", raising=False)
        show()
        sys.stdout.flush()
        text = stream.getvalue().decode()
        if stream.isatty():
            text = ESCAPE.sub("", text)
    return text
