"""The Prefect server that PREFECT_API_URL names, if it is set, and whether it answers."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import ssl
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Final
from urllib.parse import urlparse

import rich_click as click

from rarefy.pipeline.terms.errors import ProviderError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
DEFAULT_URL = "http://127.0.0.1:4200/api"
SECONDS = 5.0
YES: Final = ("1", "true", "t", "yes", "y", "on")
"""What turns a setting of Prefect's on."""
NO_SERVER: Final = (502, 503, 504)
"""What a gateway answers if the server behind it does not."""
ALONE: Final = "PREFECT_SERVER_CORS_ALLOWED_ORIGINS=http://127.0.0.1:4200,http://localhost:4200"
"""Without it, any web page in a browser of the machine may start runs there."""
REMEMBERS: Final = (
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=prefect.server.concurrency.lease_storage.filesystem"
)
"""The setting with which a server that restarts knows who holds its concurrency limits."""
NO_TELEMETRY: Final = "PREFECT_SERVER_ANALYTICS_ENABLED=false"
"""Without it, a server that cannot reach the internet may end after some seconds."""

NO_ANSWER: Final = (OSError, ValueError, HTTPException)
"""What is raised if nobody answers, or who answers speaks no HTTP."""
TO_BE_FOUND: Final = "its addresses end with /api, such as " + DEFAULT_URL
TO_BE_KNOWN: Final = "set PREFECT_API_KEY, or PREFECT_API_AUTH_STRING as the server has it"


def api_url() -> str | None:
    """Return PREFECT_API_URL without a trailing slash, or None if it is not set."""
    return os.environ.get("PREFECT_API_URL", "").rstrip("/") or None


def answers(url: str) -> bool:
    """Return whether a server answers at an API address; nearly any HTTP status is an answer.

    Prefect is not imported, because that takes a second.
    """
    status = _status(f"{url}/health", {})
    return status is not None and status not in NO_SERVER


def astray(url: str) -> bool:
    """Return whether an address leads nowhere in Prefect, because it lacks ``/api``."""
    if "api" in urlparse(url).path.split("/"):
        return False
    return _status(f"{url}/admin/version", authorization()) == 404


def require(what: str, again: str) -> str:
    """Return the address of the server that PREFECT_API_URL names.

    Args:
        what: What needs the server, for the error.
        again: The command to give once there is one, for the error.

    Raises:
        ProviderError: if the variable is not set, or the server does not answer or refuses us.
    """
    url = api_url()
    if url is None:
        why = "PREFECT_API_URL is not set"
    elif not answers(url):
        why = f"{url} (PREFECT_API_URL) does not respond"
    elif astray(url):
        raise ProviderError(f"{url} (PREFECT_API_URL) is not a Prefect API: {TO_BE_FOUND}")
    elif refuses(url):
        raise ProviderError(f"{url} (PREFECT_API_URL) rejected the credentials: {TO_BE_KNOWN}")
    else:
        return url
    raise ProviderError(
        f"{what} needs a Prefect server, but {why}. To start one and try again:\n"
        f"  export {REMEMBERS}\n"
        f"  export {ALONE}\n"
        f"  export {NO_TELEMETRY}\n"
        "  prefect server start --background\n"
        f"  export PREFECT_API_URL={DEFAULT_URL}\n"
        f"  {again}"
    )


def refuses(url: str) -> bool:
    """Return whether a server refuses our credentials, or asks for some."""
    return _status(f"{url}/admin/version", authorization()) in (401, 403)


def _status(url: str, headers: dict[str, str]) -> int | None:
    """Return the HTTP status with which an address answers; None if nobody does."""
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310
        with opener(url).open(request, timeout=SECONDS) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except NO_ANSWER:
        return None


def forgets(url: str) -> bool:
    """Return whether a server that restarts forgets who holds its concurrency limits.

    They then stay taken. False if the server does not say.
    """
    request = urllib.request.Request(f"{url}/admin/settings", headers=authorization())  # noqa: S310
    try:
        with opener(url).open(request, timeout=SECONDS) as response:
            settings = json.load(response)
        storage = settings["server"]["concurrency"]["lease_storage"]
    except (*NO_ANSWER, KeyError, TypeError):
        return False
    return str(storage).endswith(".memory")


def say_if_it_forgets(url: str) -> None:
    """Print a note if a server that restarts forgets who holds its concurrency limits."""
    if forgets(url):
        click.echo(
            "note: if this server is restarted while a run holds a limit, the limit stays taken; "
            f"start it with {REMEMBERS}",
            err=True,
        )


def opener(url: str) -> urllib.request.OpenerDirector:
    """Return what opens addresses of a server; loopback addresses bypass any proxy."""
    parsed = urlparse(url)
    handlers: list[urllib.request.BaseHandler] = []
    if parsed.hostname in LOOPBACK:
        handlers.append(urllib.request.ProxyHandler({}))
    if parsed.scheme == "https":
        handlers.append(urllib.request.HTTPSHandler(context=_trust()))
    return urllib.request.build_opener(*handlers)


def _trust() -> ssl.SSLContext:
    """Return what a server's certificate is checked against, as Prefect's own clients do."""
    import httpx

    file = os.environ.get("PREFECT_API_SSL_CERT_FILE")
    context = ssl.create_default_context(cafile=file) if file else httpx.create_ssl_context()
    unverified = os.environ.get("PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "")
    if unverified.lower() in YES:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def authorization() -> dict[str, str]:
    """Return the headers with which Prefect's own clients show who they are, to proxies as well."""
    headers: dict[str, str] = {}
    custom = os.environ.get("PREFECT_CLIENT_CUSTOM_HEADERS") or "{}"
    with contextlib.suppress(ValueError, TypeError):
        headers |= json.loads(custom)
    if key := os.environ.get("PREFECT_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    elif user := os.environ.get("PREFECT_API_AUTH_STRING"):
        token = base64.b64encode(user.encode()).decode()
        headers["Authorization"] = f"Basic {token}"
    return headers
