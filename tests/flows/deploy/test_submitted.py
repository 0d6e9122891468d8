"""The exit code of a run elsewhere is read from its final state."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Completed, Crashed, Failed, Scheduled, State

from rarefy.flows.deploy import submitted
from rarefy.pipeline.terms.errors import ProviderError

RUN = UUID(int=1)


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (Completed(), 0),
        (Failed(message="size is 1 kB; at most 500 B is allowed (exit code 3)"), 3),
        (Failed(message="Flow run encountered an exception: ZeroDivisionError"), 1),
        (Failed(message="(exit code 3) is what it said, and then it failed"), 1),
        (Crashed(message="the worker went away"), 1),
        (Cancelled(), 130),
    ],
)
def test_the_exit_code(state: State[Any], code: int) -> None:
    assert submitted.exit_code(state) == code


def test_the_address_of_a_report_is_taken_from_its_link() -> None:
    assert submitted._address("[report.html](s3://a/b_(1)/report.html)") == (
        "s3://a/b_(1)/report.html"
    )


class Server:
    """A server that knows one flow run, whose state is the next of ``states`` at every look.

    A state that is an exception is raised; the last is repeated. ``beat`` returns when the pool's
    worker showed itself last.
    """

    def __init__(
        self, *states: State[Any] | Exception, beat: Callable[[], Any] | None = None
    ) -> None:
        self.states, self.beat, self.log = list(states), beat, list[Any]()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def read_flow_run(self, run: UUID) -> Any:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, Exception):
            raise state
        return SimpleNamespace(id=run, state=state, work_pool_name="nightly")

    def read_logs(self, *_: object, offset: int, **__: object) -> list[Any]:
        return self.log[offset:]

    def read_artifacts(self, **_: object) -> list[Any]:
        return []

    def read_workers_for_work_pool(self, name: str) -> list[Any]:
        assert name == "nightly"
        if self.beat is None:
            return []
        return [SimpleNamespace(name="one", last_heartbeat_time=self.beat())]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int | str, list[str]]]:
    """Watch a run on a server, half a minute between two looks; no time passes otherwise.

    Returns the exit code or the error, and what was said.
    """
    clock = SimpleNamespace(now=0.0)

    def sleep(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(
        submitted, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep)
    )

    def watch(server: Server, **given: Any) -> tuple[int | str, list[str]]:
        monkeypatch.setattr(submitted, "get_client", lambda **_: server)
        said: list[str] = []
        try:
            return submitted.watch(RUN, said.append, pause=30.0, **given).exit_code, said
        except ProviderError as error:
            return str(error), said

    return watch


Watched = Callable[..., tuple[int | str, list[str]]]
AWAY = httpx.ConnectError("refused")


def test_what_a_run_has_said_last_comes_after_its_state(watched: Watched) -> None:
    class Late(Server):
        def read_flow_run(self, run: UUID) -> Any:
            self.looks = 0
            return super().read_flow_run(run)

        def read_logs(self, *given: object, **more: Any) -> list[Any]:
            self.looks += 1
            self.log = [SimpleNamespace(message="the end")] if self.looks > 1 else []
            return super().read_logs(*given, **more)

    code, said = watched(Late(Completed()))
    assert (code, said) == (0, ["state: Completed", "the end"])


def test_a_server_that_comes_back_is_waited_for(watched: Watched) -> None:
    code, said = watched(Server(*[AWAY] * 9, Completed()))
    assert code == 0
    assert [line.partition(" (")[0] for line in said[:2]] == [
        "the server does not respond", "the server responds again"
    ]  # fmt: skip


def test_a_server_that_stays_away_ends_the_watching(watched: Watched) -> None:
    error, said = watched(Server(Scheduled(), AWAY))
    assert "has not responded for 5 min" in str(error)
    assert sum("does not respond" in line for line in said) == 1


def test_a_run_that_is_deleted_ends_the_watching(watched: Watched) -> None:
    error, _ = watched(Server(Scheduled(), ObjectNotFound(AWAY)))
    assert error == f"the server no longer has the run {RUN}"


@pytest.mark.parametrize("beat", [None, lambda: datetime(2026, 1, 1, tzinfo=UTC)])
def test_a_pool_without_a_worker_is_said_once(watched: Watched, beat: Any) -> None:
    """There never was one, or it was last seen long ago."""
    code, said = watched(Server(*[Scheduled()] * 9, Completed(), beat=beat))
    assert code == 0
    assert [line for line in said if line.endswith("prefect worker start --pool nightly")] == [
        "no worker of the work pool 'nightly' has shown itself for 1 min; the run waits for one: "
        "prefect worker start --pool nightly"
    ]


def test_of_a_worker_that_is_busy_nothing_is_said(watched: Watched) -> None:
    beats = iter(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=30 * at) for at in range(99))
    _, said = watched(Server(*[Scheduled()] * 9, Completed(), beat=lambda: next(beats)))
    assert not any("no worker" in line for line in said)


def test_watching_ends_after_the_time_that_it_was_given(watched: Watched) -> None:
    error, _ = watched(Server(Scheduled()), timeout=600)
    assert error == (
        "the run is Scheduled after 600 s; it continues, and its page in Prefect says how it ends"
    )
