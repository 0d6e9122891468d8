"""Which errors may pass by themselves, so that trying again is worth it: networks, stores, locks.

A wrong recipe, damaged bytes, a full disk or a missed budget stay what they are.
"""

from __future__ import annotations

import errno
import sqlite3

from pipeline.terms.errors import BudgetError, EvidenceError, IntegrityError, RecipeError

DELAYS = (2.0, 20.0, 120.0)
"""Seconds before each further attempt; a server that restarts needs about half a minute."""
LASTING = (RecipeError, IntegrityError, EvidenceError, BudgetError)

_NUMBERS = frozenset(
    number
    for name in (
        *("EAGAIN", "EBUSY", "EINTR", "EIO", "ENOLCK", "EPIPE", "ESTALE", "ETIMEDOUT"),
        *("ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "EREMOTEIO"),
        *("EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETRESET", "ENETUNREACH"),
    )
    if (number := getattr(errno, name, None)) is not None
)
_CLASSES = frozenset(
    {
        "gaierror",  # the name of a host could not be looked up
        "TransportError",  # httpx
        "ClientConnectionError",  # aiohttp
        "ClientPayloadError",
        "ConnectionError",  # botocore
        "HTTPClientError",
        "IncompleteReadError",
    }
)
"""Base classes of libraries that need not be installed."""
_STATUSES = frozenset({"408", "425", "429", "500", "502", "503", "504"})


def may_pass(error: BaseException | None) -> bool:
    """Return whether an error, or what caused it, may be gone at the next attempt."""
    if isinstance(error, LASTING):
        return False
    while error is not None:
        if _passes(error):
            return True
        error = error.__cause__
    return False


def _passes(error: BaseException) -> bool:
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError) and error.errno in _NUMBERS:
        return True
    if isinstance(error, sqlite3.OperationalError):
        return "locked" in str(error) or "busy" in str(error)
    if _CLASSES & {kind.__name__ for kind in type(error).__mro__}:
        return True
    response = getattr(error, "response", None)  # httpx, and what is built on it
    statuses = [
        getattr(response, "status_code", None),
        getattr(error, "status", None),  # aiohttp
        getattr(error, "code", None),  # gcsfs, as a number or a text
    ]
    return any(str(status) in _STATUSES for status in statuses)
