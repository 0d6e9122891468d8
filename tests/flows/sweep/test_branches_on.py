"""Where branches run, as far as no cluster is needed."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from rarefy.flows.sweep import branch, branches_on
from rarefy.flows.sweep.branches_on import Inline
from rarefy.flows.sweep.workers import Where, Workers
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.errors import ProviderError, RecipeError
from tests.project import Project


@pytest.mark.parametrize(("on", "package"), [("dask", "prefect-dask"), ("ray", "prefect-ray")])
def test_a_missing_extra_is_one_line(
    monkeypatch: pytest.MonkeyPatch, on: Any, package: str
) -> None:
    monkeypatch.setattr(branches_on, "find_spec", lambda _: None)
    with pytest.raises(ProviderError) as raised:
        branches_on.check(Where(on))
    said = f"a sweep on {on.capitalize()} needs {package}: pip install '{package}>="
    assert str(raised.value).startswith(said)
    assert raised.value.exit_code == 5


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


@pytest.mark.parametrize(
    ("address", "elsewhere"),
    [
        (None, False),
        ("tcp://127.0.0.1:8786", False),
        ("localhost:6379", False),
        ("tcp://[::1]:8786", False),
        ("tcp://[2001:db8::1]:8786", True),
        ("ray://localhost.example.org:10001", True),
    ],
)
def test_only_loopback_addresses_are_of_this_machine(address: str | None, elsewhere: bool) -> None:
    assert Where("dask", 2, address).elsewhere is elsewhere


def test_what_is_no_address_is_said_in_one_line() -> None:
    with pytest.raises(RecipeError, match="this is not an address"):
        branches_on.check(Where("threads", 2, "tcp://[::1"))


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


def test_what_a_branch_prints_is_no_answer_of_the_sweep(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    where = Where("inline")
    branches_on.run(where, Home(project.home), "trial", 1, lambda _: print("loud"))
    assert capsys.readouterr() == ("", "loud\n")
