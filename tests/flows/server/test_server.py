"""Check that the Prefect server named in the environment can be reached."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from rarefy.flows.server import server as prefect_server
from rarefy.pipeline.terms.errors import ProviderError


class Settings(BaseHTTPRequestHandler):
    """Says how a server keeps leases, to those who may know."""

    storage = "prefect.server.concurrency.lease_storage.memory"

    def do_GET(self) -> None:
        known = self.headers["Authorization"] == "Bearer secret"
        self.send_response(200 if known else 401)
        self.end_headers()
        said = {"server": {"concurrency": {"lease_storage": self.storage}}}
        self.wfile.write(json.dumps(said).encode())

    def log_message(self, *_: object) -> None:
        pass


class Refusing(BaseHTTPRequestHandler):
    """Answers every request with 404."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


class Gateway(BaseHTTPRequestHandler):
    """Stands in front of a server that is down."""

    def do_GET(self) -> None:
        self.send_error(503)

    def log_message(self, *_: object) -> None:
        pass


class Locked(BaseHTTPRequestHandler):
    """Answers everybody's health check, and else those who are known."""

    def do_GET(self) -> None:
        known = self.headers.get("Authorization") == "Bearer secret"
        self.send_response(200 if known or self.path.endswith("/health") else 401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(params=[Refusing])
def server(request: pytest.FixtureRequest) -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), request.param) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def test_a_status_is_an_answer_and_a_proxy_is_not_asked(
    server: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert prefect_server.answers(f"http://127.0.0.1:{server.server_port}/api")


def test_an_address_without_api_is_nothing_of_prefect(
    server: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{server.server_port}"
    assert (prefect_server.astray(url), prefect_server.astray(f"{url}/api")) == (True, False)
    monkeypatch.setenv("PREFECT_API_URL", url)
    with pytest.raises(ProviderError, match=r"not a Prefect API: its addresses end with /api"):
        prefect_server.require("a schedule", "again")


def test_who_speaks_no_http_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/api"

        def greet() -> None:
            for _ in range(2):
                with server.accept()[0] as connection:
                    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        threading.Thread(target=greet, daemon=True).start()
        assert not prefect_server.answers(url)
        assert not prefect_server.refuses(url)


@pytest.mark.parametrize("server", [Gateway], indirect=True)
def test_a_gateway_without_its_server_is_no_answer(server: HTTPServer) -> None:
    assert not prefect_server.answers(f"http://127.0.0.1:{server.server_port}/api")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of 127.0.0.1 that nobody else vouches for, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "here")])
    today = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(1))
        .not_valid_after(today + timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "here.pem"
    path.write_bytes(made.public_bytes(Encoding.PEM) + secret)
    return path


def test_a_certificate_is_trusted_as_prefect_trusts_it(
    server: HTTPServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"https://127.0.0.1:{server.server_port}/api"
    names = ("PREFECT_API_SSL_CERT_FILE", "SSL_CERT_FILE", "PREFECT_API_TLS_INSECURE_SKIP_VERIFY")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    assert not prefect_server.answers(url)
    for name, value in zip(names, (str(certificate), str(certificate), "true"), strict=True):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert prefect_server.answers(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/api", "no url"])
def test_nobody_there_is_no_answer(url: str) -> None:
    assert not prefect_server.answers(url)


def test_the_address_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://there:4200/api/")
    assert prefect_server.api_url() == "http://there:4200/api"
    monkeypatch.setenv("PREFECT_API_URL", "")
    assert prefect_server.api_url() is None


@pytest.mark.parametrize("server", [Settings], indirect=True)
def test_a_server_with_leases_in_memory_forgets_them(
    server: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{server.server_port}/api"
    monkeypatch.delenv("PREFECT_API_KEY", raising=False)
    assert not prefect_server.forgets(url), "it does not say"
    monkeypatch.setenv("PREFECT_API_KEY", "secret")
    assert prefect_server.forgets(url)
    monkeypatch.setattr(Settings, "storage", "prefect.server.concurrency.lease_storage.filesystem")
    assert not prefect_server.forgets(url)


@pytest.mark.parametrize("server", [Locked], indirect=True)
def test_a_server_that_wants_to_know_who_asks_says_so(
    server: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{server.server_port}/api")
    monkeypatch.setenv("PREFECT_API_KEY", "wrong")
    with pytest.raises(ProviderError, match="set PREFECT_API_KEY, or PREFECT_API_AUTH_STRING"):
        prefect_server.require("a dream", "rarefy dream")
    monkeypatch.setenv("PREFECT_API_KEY", "secret")
    assert prefect_server.require("a dream", "rarefy dream")


def test_what_needs_a_server_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with pytest.raises(
        ProviderError, match=r"(?s)a dream needs .*127.*LEASE_STORAGE.*\n  rarefy dream$"
    ):
        prefect_server.require("a dream", "rarefy dream")


@pytest.mark.parametrize("server", [Settings], indirect=True)
def test_a_server_that_forgets_is_told_which_setting_it_needs(
    server: HTTPServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{server.server_port}/api"
    monkeypatch.setenv("PREFECT_API_KEY", "secret")
    prefect_server.say_if_it_forgets(url)
    said = capsys.readouterr()
    assert (said.out, prefect_server.REMEMBERS in said.err) == ("", True)
    name, _, storage = prefect_server.REMEMBERS.partition("=")
    assert name.startswith("PREFECT_SERVER_")
    monkeypatch.setattr(Settings, "storage", storage)
    prefect_server.say_if_it_forgets(url)
    assert capsys.readouterr().err == ""


def test_a_user_and_password_are_shown_as_prefect_does(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_API_KEY", "PREFECT_CLIENT_CUSTOM_HEADERS"):
        monkeypatch.delenv(name, raising=False)
    assert prefect_server.authorization() == {}
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "a:b")
    assert prefect_server.authorization() == {"Authorization": "Basic YTpi"}
    monkeypatch.setenv("PREFECT_CLIENT_CUSTOM_HEADERS", '{"CF-Access-Client-Id": "me"}')
    assert prefect_server.authorization() == {
        "Authorization": "Basic YTpi",
        "CF-Access-Client-Id": "me",
    }
    monkeypatch.setenv("PREFECT_CLIENT_CUSTOM_HEADERS", "none")  # Prefect itself says so
    assert prefect_server.authorization() == {"Authorization": "Basic YTpi"}
