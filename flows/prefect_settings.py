"""The environment variables that Prefect reads when it is imported."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from flows import logs, prefect_server
from pipeline.store import disk


def prepare(home: Path, verbose: bool = False) -> None:
    """Set the variables that Prefect reads: no telemetry, and its database in our folder.

    Variables that the user has set are kept. The log of a run goes to the server. It goes to the
    console only if ``verbose``, because our own display and errors are shown there.

    Raises ProviderError if the folder cannot be made.
    """
    logs.hide_credentials()
    with disk.speaking(home):
        home.mkdir(parents=True, exist_ok=True)
    level = "INFO" if verbose else "CRITICAL"
    for name, value in {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_HOME": str(home.resolve()),
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": level,
        "PREFECT_SERVER_LOGGING_LEVEL": level,
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        # Or any page in a browser of this machine may ask the embedded server for things.
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "http://127.0.0.1",
    }.items():
        os.environ.setdefault(name, value)
    _leave_out_loopback()
    if not verbose:
        for name in ("httpx", "httpcore", "uvicorn", "aiosqlite"):
            logging.getLogger(name).setLevel(logging.ERROR)


def _leave_out_loopback() -> None:
    """Let no proxy stand between Prefect and a server on this machine: its client asks it for all.

    Of the two spellings of the variable, Python prefers the one in small letters.
    """
    for name in ("NO_PROXY", "no_proxy"):
        known = os.environ.get(name) or os.environ.get(name.swapcase(), "")
        hosts = [host.strip() for host in known.split(",") if host.strip()]
        if "*" not in hosts:  # which counts only if it stands alone
            hosts += [host for host in prefect_server.LOOPBACK if host not in hosts]
        os.environ[name] = ",".join(hosts)
