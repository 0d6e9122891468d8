"""Log records without credentials, whichever library writes or reads them."""

from __future__ import annotations

import contextlib
import io
import logging
from typing import TYPE_CHECKING, Any

from rarefy.pipeline.terms.credentials import redact

if TYPE_CHECKING:
    from rich.console import Console

_make = logging.getLogRecordFactory()
_formatter = logging.Formatter()


def hide_credentials() -> None:
    """Redact the URLs in the messages and tracebacks of all records that are made from now on.

    Prefect sends its log, with tracebacks, to its server, whose database keeps them.
    """
    logging.setLogRecordFactory(_redacted)


def _redacted(*arguments: Any, **others: Any) -> logging.LogRecord:
    record = _make(*arguments, **others)
    # Arguments that do not fit the message are left to logging, which reports them.
    with contextlib.suppress(TypeError, ValueError):
        message = record.getMessage()
        redacted = redact(message)
        if redacted != message:  # some formatters read the arguments
            record.msg, record.args = redacted, ()
    if record.exc_info and record.exc_info[0] is not None:
        trace = _formatter.formatException(record.exc_info)
        redacted = redact(trace)
        if redacted != trace:
            record.exc_text = redacted
    return record


class LogStream(io.TextIOBase):
    """A text stream whose lines are the messages of a log, so that a display can write to it."""

    def __init__(self, log: logging.Logger | logging.LoggerAdapter[Any]) -> None:
        self._log = log

    def write(self, text: str) -> int:
        for line in text.splitlines():
            if line.strip():
                self._log.info("%s", line.rstrip())
        return len(text)

    def console(self) -> Console:
        """Return a console that prints plain, unbroken lines to the log."""
        from rarefy.flows.console.terminal import Console

        return Console(
            file=self,  # type: ignore[arg-type]
            width=400,
            force_terminal=False,  # whatever FORCE_COLOR says: a bar would fill the log
            color_system=None,
            highlight=False,
            markup=False,
            emoji=False,
        )
