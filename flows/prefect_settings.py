"""The environment variables that Prefect reads when it is imported."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

from flows import logs, prefect_server
from pipeline.store import disk

DEFAULTS: Final = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    # Or any page in a browser of this machine may ask the temporary server for things.
    "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "http://127.0.0.1",
}
LOUD: Final = ("httpx", "httpcore", "uvicorn", "aiosqlite")
"""Libraries that log what nobody asked for."""


def prepare(home: Path, verbose: bool = False) -> None:
    """Set the variables that Prefect reads: no telemetry, and its database in our folder.

    Variables that the user has set are kept.

    Args:
        home: The folder of Prefect's database.
        verbose: Whether the log of a run goes to the console too, where our own display and errors
            are shown. It goes to the server in any case.

    Raises:
        ProviderError: if the folder cannot be made.
    """
    logs.hide_credentials()
    with disk.speaking(home):
        home.mkdir(parents=True, exist_ok=True)
    level = "CRITICAL"
    if verbose:
        level = "INFO"
    defaults = DEFAULTS | {
        "PREFECT_HOME": str(home.resolve()),
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": level,
        "PREFECT_SERVER_LOGGING_LEVEL": level,
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    _bypass_proxies()
    if not verbose:
        for name in LOUD:
            logging.getLogger(name).setLevel(logging.ERROR)


def _bypass_proxies() -> None:
    """Let no proxy stand between Prefect's client and a server on this machine.

    Of the two spellings of the variable, Python prefers the one in small letters.
    """
    for name in ("NO_PROXY", "no_proxy"):
        exceptions = os.environ.get(name) or os.environ.get(name.swapcase(), "")
        hosts = [host.strip() for host in exceptions.split(",")]
        hosts = [host for host in hosts if host]
        if "*" not in hosts:  # which counts only if it stands alone
            hosts += [host for host in prefect_server.LOOPBACK if host not in hosts]
        os.environ[name] = ",".join(hosts)
