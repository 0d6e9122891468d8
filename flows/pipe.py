"""Output that nobody takes: a closed pipe, as of ``rarefy artifact ls | head``, or a full disk.

A closed pipe ends a command quietly, and never as a success.
"""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TextIO

import rich_click as click

EXIT_CODE: Final = 141
"""128 + SIGPIPE, as a shell reports a program that a closed pipe ended."""


class BrokenError(Exception):
    """Something wrote to a closed pipe; ``error`` is the original exception."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class Group(click.RichGroup):
    """A group of commands that raises BrokenError; click would exit 1, whoever's pipe it was."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.RichContext:
        with closed_pipe_raised():  # --help and --version, which write while they are parsed
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with closed_pipe_raised():
            return super().invoke(ctx)


@contextmanager
def closed_pipe_raised() -> Iterator[None]:
    """Raise BrokenError if something writes to a closed pipe."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise BrokenError(error) from error
        raise
    except SystemExit as ended:
        # rich discards the output of a closed pipe by itself, and exits with 1.
        if isinstance(ended.__context__, BrokenPipeError):
            raise SystemExit(EXIT_CODE) from None
        raise


def nobody_reads() -> bool:
    """Return whether the reader of our output is gone; then discard what is still written to it.

    If it is not, the broken pipe was another one, e.g. that of a worker process that died.
    """
    gone = [stream for stream in (sys.stdout, sys.stderr) if _closed(stream)]
    for stream in gone:
        _discard(stream)
    return bool(gone)


def discard_unwritten() -> None:
    """Discard output that cannot be written, as to a full disk: Python would try again at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _discard(stream)


def _discard(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _closed(stream: TextIO) -> bool:
    if not hasattr(select, "poll"):
        return False  # Windows: it reports the error instead
    poll = select.poll()
    try:
        poll.register(stream.fileno(), 0)
    except (OSError, ValueError):  # not a file of the system, as in tests and notebooks
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))
