"""Check that the Prefect server named in the environment can be reached."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from flows import prefect_server


class Refusing(BaseHTTPRequestHandler):
    """Answers every request with 404."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), Refusing) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def test_any_status_is_an_answer_and_a_proxy_is_not_asked(
    server: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert prefect_server.answers(f"http://127.0.0.1:{server.server_port}/api")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/api", "no url"])
def test_nobody_there_is_no_answer(url: str) -> None:
    assert not prefect_server.answers(url)


def test_the_address_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://there:4200/api/")
    assert prefect_server.api_url() == "http://there:4200/api"
    monkeypatch.setenv("PREFECT_API_URL", "")
    assert prefect_server.api_url() is None
