"""Faults of networks and stores are tried again; a wrong recipe is not."""

from __future__ import annotations

import errno
import socket
import sqlite3

import aiohttp
import botocore.exceptions
import httpx
import pytest
from huggingface_hub.errors import HfHubHTTPError
from prefect.exceptions import PrefectHTTPStatusError

from rarefy.flows.server.retry import may_pass
from rarefy.pipeline.store.remote.files import RemoteFiles
from rarefy.pipeline.terms.errors import (
    BudgetError,
    DataError,
    IntegrityError,
    ModelError,
    ProviderError,
    RarefyError,
    RecipeError,
)

ASKED = httpx.Request("GET", "http://there")


class HttpError(Exception):
    """What gcsfs raises, which knows codes as the service gives them."""

    def __init__(self, code: int | str) -> None:
        self.code = code


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("peer"),
        TimeoutError(),
        OSError(errno.ESTALE, "a network share went away"),
        socket.gaierror("no such host"),
        httpx.ConnectError("refused"),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientResponseError(None, (), status=503),  # type: ignore[arg-type]
        httpx.HTTPStatusError("", request=ASKED, response=httpx.Response(503)),
        PrefectHTTPStatusError("", request=ASKED, response=httpx.Response(500)),
        HfHubHTTPError("", response=httpx.Response(429, request=ASKED)),
        botocore.exceptions.EndpointConnectionError(endpoint_url="http://there"),
        HttpError(503),
        HttpError("429"),
        sqlite3.OperationalError("database is locked"),
        caused(ProviderError("s3://bucket: reset"), ConnectionResetError()),
        caused(RarefyError("distill: reset"), caused(ProviderError("x"), ConnectionResetError())),
    ],
)
def test_these_are_tried_again(error: Exception) -> None:
    assert may_pass(error)


@pytest.mark.parametrize(
    "error",
    [
        RecipeError("no such stage"),
        DataError("no rows"),
        ModelError("no head"),
        BudgetError("too slow"),
        IntegrityError("damaged"),
        caused(RecipeError("no such bucket"), ConnectionResetError()),
        ProviderError("no CUDA device"),
        caused(ProviderError("the disk is full"), OSError(errno.ENOSPC, "full")),
        caused(ProviderError("no permission"), PermissionError(errno.EACCES, "no")),
        FileNotFoundError(errno.ENOENT, "gone"),
        aiohttp.ClientResponseError(None, (), status=403),  # type: ignore[arg-type]
        HttpError(403),
        sqlite3.OperationalError("no such table"),
        ZeroDivisionError("a bug"),
    ],
)
def test_these_stay_what_they_are(error: Exception) -> None:
    assert not may_pass(error)


def test_a_web_server_that_is_down_may_come_back() -> None:
    with pytest.raises(ProviderError) as raised:
        RemoteFiles.open("http://127.0.0.1:9/recipes").read("demo.yaml")
    assert may_pass(raised.value)
