"""Log records without credentials, whichever library writes or reads them."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from pipeline.terms.credentials import redact

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
        record.msg, record.args = redact(record.getMessage()), ()
    if record.exc_info and record.exc_info[0] is not None:
        record.exc_text = redact(_formatter.formatException(record.exc_info))
    return record
