"""What is measured within ``limited`` holds the server's limit, if a server is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rarefy.flows.server import measuring, prefect_settings
from rarefy.flows.server import server as prefect_server
from rarefy.flows.sweep import branch
from rarefy.pipeline.measure import exclusive
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.errors import ProviderError


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the machines whose limits were held."""
    from rarefy.flows.server import limits

    taken: list[str] = []

    @contextmanager
    def limit(waiting: object) -> Iterator[None]:
        taken.append("held")
        yield

    monkeypatch.setattr(limits, "limit_of", lambda machine: limit)
    monkeypatch.setattr(prefect_settings, "prepare", lambda *_: None)
    monkeypatch.setattr(prefect_server, "require", lambda *_: None)
    return taken


def test_without_a_server_nothing_more_is_held(
    tmp_path: Path, held: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with measuring.limited(Home(tmp_path)), exclusive.measuring():
        assert not held


def test_with_a_server_a_measurement_holds_its_limit_and_nothing_else_does(
    tmp_path: Path, held: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    with measuring.limited(Home(tmp_path)):
        assert not held
        with exclusive.measuring():
            assert held == ["held"]
    with exclusive.measuring():
        assert held == ["held"]


def test_a_branch_in_a_process_of_its_own_holds_it(
    tmp_path: Path, held: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(given: dict[str, object]) -> dict[str, object]:
        with exclusive.measuring():
            return {"held": list(held)}

    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    monkeypatch.setattr(branch, "run", run)
    monkeypatch.setattr(branch, "end_with", lambda _: None)
    answer = branch.serve({"parent": 0, "values": {"home": str(tmp_path)}})
    assert answer == {"held": ["held"]}


def test_a_server_that_does_not_answer_is_said_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with pytest.raises(ProviderError, match="does not respond"), measuring.limited(Home(tmp_path)):
        pass
