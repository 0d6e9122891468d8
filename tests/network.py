"""Tests speak to this machine only: a connection or a look-up that leaves it fails the test."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

for _name, _value in {
    # Clients of object stores then take credentials from the environment alone: no metadata
    # service is asked, and no file in the home folder is read.
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "NO_GCE_CHECK": "true",
}.items():
    os.environ[_name] = _value


def is_local(host: Any) -> bool:
    """Return True for loopback, and for names and sockets that need no network."""
    if host in (None, "", b"", "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Refuse connections and look-ups that leave this machine, and fail the test that tries."""
    tried: list[str] = []

    def refuse(what: str, host: Any) -> None:
        if not is_local(host):
            tried.append(f"{what} {host!r}")
            raise OSError(f"the tests may not leave this machine: {tried[-1]}")

    for name in ("connect", "connect_ex"):
        real = getattr(socket.socket, name)

        def connect(self: socket.socket, address: Any, real: Any = real) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                refuse("connect to", address[0])
            return real(self, address)

        monkeypatch.setattr(socket.socket, name, connect)
    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        refuse("look up", host)
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield tried
    assert tried == [], "the test left this machine"
