"""The Prefect server that the environment names, if it names one, and whether it answers."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from urllib.parse import urlparse

LOOPBACK = ("127.0.0.1", "localhost", "::1")
DEFAULT_URL = "http://127.0.0.1:4200/api"
SECONDS = 5.0


def api_url() -> str | None:
    """Return what PREFECT_API_URL says, without a trailing slash; None where it is not set."""
    return os.environ.get("PREFECT_API_URL", "").rstrip("/") or None


def answers(url: str) -> bool:
    """Say whether a server answers at an API address; any HTTP status is an answer.

    Prefect is not imported: that takes a second. A proxy is not asked about this machine.
    """
    handlers = []
    if urlparse(url).hostname in LOOPBACK:
        handlers.append(urllib.request.ProxyHandler({}))
    try:
        urllib.request.build_opener(*handlers).open(f"{url}/health", timeout=SECONDS).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
    return True
