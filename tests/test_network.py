"""The tests' own guard: what would leave this machine is refused, and said."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request

import pytest

from tests.network import is_local


@pytest.mark.parametrize(
    "url", ["http://example.com/", "http://192.0.2.1/", "http://[2001:db8::1]/"]
)
def test_leaving_this_machine_is_refused(url, loopback_only):
    with pytest.raises(OSError, match="may not leave this machine"):
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url)
    assert len(loopback_only) == 1
    loopback_only.clear()  # otherwise this test would fail, as any other would


def test_this_machine_can_be_spoken_to():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(("localhost", server.getsockname()[1])).close()
    assert [is_local(host) for host in ("127.8.8.8", "::1", "10.0.0.1", "host")] == [
        True,
        True,
        False,
        False,
    ]


def test_no_client_looks_for_cloud_credentials_outside_the_environment():
    """A process started by a test inherits this too."""
    code = "import botocore.session as aws; print(aws.get_session().get_credentials())"
    own = {name: value for name, value in os.environ.items() if "AWS_ACCESS" not in name}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "None\n"
