"""What Prefect reads from the environment when it is imported."""

from __future__ import annotations

import logging
import os
from pathlib import Path


def prepare(home: Path, verbose: bool = False) -> None:
    """Set what Prefect reads when it is imported: no telemetry, its database in our folder.

    What the user has set stays. A run's log goes to the server; to the console only if ``verbose``:
    our own display and errors speak there.
    """
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
    }.items():
        os.environ.setdefault(name, value)
    if not verbose:
        for name in ("httpx", "httpcore", "uvicorn", "aiosqlite"):
            logging.getLogger(name).setLevel(logging.ERROR)
