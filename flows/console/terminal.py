"""What a terminal is shown: no text of others can give it a command.

Whatever is printed goes through here: text by a stream, and rich's tables and bars, whose own
commands must arrive, by a console.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from rarefy.pipeline.terms.printable import printable


class Console(rich.console.Console):
    """A console that leaves out the control characters of what it renders, but not its own."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the segments of what is rendered; see ``rich.console.Console.render``."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                # Nothing stands for them: rich has measured them as of no width.
                yield Segment(printable(segment.text, ""), segment.style)


class _Cleaned:
    """A stream to which no control character is written, but by rich."""

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream  # where rich writes; see ``Console.file``

    def write(self, text: str) -> int:
        return self.rich_proxied_file.write(printable(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


@contextmanager
def cleaned() -> Iterator[None]:
    """Print no control characters in this context."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("TextIO", _Cleaned(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
