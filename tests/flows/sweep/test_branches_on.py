"""Where branches run, as far as no cluster is needed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from rarefy.flows.sweep import branch, branches_on
from rarefy.flows.sweep.branches_on import Inline
from rarefy.flows.sweep.workers import Where, Workers
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.errors import ProviderError
from tests.project import Project


@pytest.mark.parametrize(("on", "package"), [("dask", "prefect-dask"), ("ray", "prefect-ray")])
def test_a_missing_extra_is_one_line(
    monkeypatch: pytest.MonkeyPatch, on: Any, package: str
) -> None:
    monkeypatch.setattr(branches_on, "find_spec", lambda _: None)
    with pytest.raises(ProviderError) as raised:
        branches_on.check(Where(on))
    said = f"a sweep on {on.capitalize()} needs {package}: pip install 'rarefy[{on}]'"
    assert (str(raised.value), raised.value.exit_code) == (said, 5)


def test_inline_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches_on, "find_spec", lambda _: None)
    branches_on.check(Where("inline"))
    branches_on.check(Where("threads", 2))


def test_workers_elsewhere_need_a_server_that_they_reach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(branches_on, "find_spec", lambda _: object())
    with pytest.raises(ProviderError, match="needs a Prefect server, but PREFECT_API_URL"):
        branches_on.check(Where("dask", 2, "tcp://10.0.0.2:8786"))


def test_inline_answers_before_it_returns(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(branch, "run", lambda given: given | {"state": "done"})

    def body(workers: Workers) -> None:
        assert workers.size == 1
        futures.append(workers.submit({"name": "a"}))

    futures: list[Future[dict[str, Any]]] = []
    branches_on.run(Where("inline"), Home(project.home), "trial", 1, body)
    assert futures[0].result() == {"name": "a", "state": "done"}


def test_an_error_inline_is_the_future_s(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(given: dict[str, Any]) -> dict[str, Any]:
        raise ConnectionResetError("away")

    monkeypatch.setattr(branch, "run", broken)
    with pytest.raises(ConnectionResetError):
        Inline().submit({"name": "a"}).result()


def test_a_ray_cluster_that_is_not_there_is_one_line(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(branches_on, "find_spec", lambda _: object())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
        where = Where("ray", 1, address)
        with pytest.raises(ProviderError, match="no Ray cluster answers: ") as raised:
            branches_on.run(where, Home(project.home), "trial", 1, lambda _: None)
        assert raised.value.exit_code == 5


@contextmanager
def listening(*said: bytes) -> Iterator[str]:
    """Listen, and say something to the first who connects; or nothing, and keep them waiting."""
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as kept:

        def serve() -> None:
            connection = kept.enter_context(server.accept()[0])
            for each in said:
                connection.sendall(each)

        answering = threading.Thread(target=serve)
        answering.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        answering.join()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ((), "no Ray cluster answers: timed out"),
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), "what listens there is no Ray cluster"),
    ],
)
def test_what_listens_but_is_no_ray_cluster_is_one_line(said: tuple[bytes, ...], why: str) -> None:
    """The second is what Ray's own dashboard says."""
    with listening(*said) as address, pytest.raises(ProviderError) as raised:
        branches_on.check_ray(Where("ray", 1, address), seconds=0.5)
    assert str(raised.value).startswith(f"{address}: {why}")


def test_what_speaks_as_ray_does_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings with one value, in two pieces; with TLS, nothing can be said before Ray does."""
    frame = bytes([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 255, 255])
    with listening(frame[:2], frame[2:]) as address:
        branches_on.check_ray(Where("ray", 1, f"ray://{address}"))
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with listening() as address:
        branches_on.check_ray(Where("ray", 1, address))


def test_what_a_branch_prints_is_no_answer_of_the_sweep(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(branch, "run", lambda given: print("loud") or given)
    Inline().submit({"name": "a"})
    assert capsys.readouterr() == ("", "loud\n")
