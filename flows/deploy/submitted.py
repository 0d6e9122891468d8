"""A run of a deployment, started and watched from anywhere: its log, its end and our exit code.

Import it after ``prefect_settings.prepare``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import LogSort
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from rarefy.flows.console.options import INTERRUPTED
from rarefy.flows.run.flow import EXIT_CODE, NAME, key
from rarefy.pipeline.terms.errors import ProviderError, RecipeError
from rarefy.pipeline.terms.wording import duration, hint

PAUSE = 2.0
"""Seconds between two looks at a run."""
PATIENCE = 300.0
"""Seconds that the server may be away before the watching ends."""
IDLE = 60.0
"""Seconds without a sign of life of a pool's workers, which give one every half minute."""
GOES_ON = "its page in Prefect says how it ends"
HINTS = {
    "Late": "; no worker has taken the run: is one running for its work pool?",
    "AwaitingConcurrencySlot": "; another run of this deployment is going on",
}
"""What the states mean in which a run may wait for long."""
PAGE = 200
"""How many lines of a log the server sends at once, at most."""


@dataclass(frozen=True)
class Ended:
    """A flow run's final state, and the exit code that the recipe's verdict gives it."""

    state: str
    message: str
    exit_code: int
    report: str | None


def submit(deployment: str) -> FlowRun:
    """Start a run of a deployment, by its name with or without the flow's.

    Raises RecipeError if the server has no such deployment.
    """
    full = deployment if "/" in deployment else f"{NAME}/{deployment}"
    with get_client(sync_client=True) as client:
        try:
            identifier = client.read_deployment_by_name(full).id
        except ObjectNotFound:
            names = [other.name for other in client.read_deployments()]
            similar = hint(full.partition("/")[2], names)
            raise RecipeError(f"{full}: the server has no such deployment{similar}") from None
        return client.create_flow_run_from_deployment(identifier)


def watch(
    run: UUID,
    say: Callable[[str], None],
    *,
    timeout: float | None = None,
    pause: float = PAUSE,
    patience: float = PATIENCE,
    idle: float = IDLE,
) -> Ended:
    """Wait for the end of a flow run; ``say`` is given its states and the lines of its log.

    A server that does not answer is asked again for ``patience`` seconds, and ``say`` is told if no
    worker of the run's pool has shown a sign of life for ``idle`` seconds. Raises ProviderError if
    the server stays away, if the run is deleted there, or if it has not ended after ``timeout``
    seconds.
    """
    began = answered = time.monotonic()
    shown, lines, away, pool = "", 0, False, _Pool(idle)
    while True:
        try:
            with get_client(sync_client=True) as client:
                flow_run = client.read_flow_run(run)
                if away:
                    say("the server responds again")
                    pool = _Pool(idle)  # meanwhile no worker could show itself
                away, answered = False, time.monotonic()
                for line in _log(client, run, lines):
                    lines += 1
                    say(line)
                state = flow_run.state
                if state is not None and state.name != shown:
                    shown = state.name or state.type.value
                    say(f"state: {shown}{HINTS.get(shown, '')}")
                if state is not None and state.is_final():
                    _say_the_rest(client, run, lines, say, pause)
                    return _ended(client, flow_run, state)
                if state is None or state.is_scheduled():
                    pool.look(client, flow_run.work_pool_name, say)
        except ObjectNotFound:
            raise ProviderError(f"the server no longer has the run {run}") from None
        except (httpx.TransportError, PrefectHTTPStatusError) as error:
            if isinstance(error, PrefectHTTPStatusError) and error.response.status_code < 500:
                why = f"the server answers {error.response.status_code}"
                raise ProviderError(f"{why}; the run may continue, and {GOES_ON}") from error
            if not away:
                say(f"the server does not respond ({type(error).__name__}); the run may continue")
            away = True
        now = time.monotonic()
        if away and now - answered >= patience:
            raise ProviderError(
                f"the server has not responded for {duration(now - answered)}; if the run "
                "continues, "
                f"{GOES_ON}"
            )
        if timeout is not None and now - began >= timeout:
            raise ProviderError(
                f"the run is {shown or 'not started'} after {timeout:g} s; it continues, "
                f"and {GOES_ON}"
            )
        time.sleep(pause)


class _Pool:
    """Notices that no worker is there for a work pool.

    By changes of what the server knows of them: its clock may differ from ours.
    """

    def __init__(self, idle: float) -> None:
        self._idle = idle
        self._known: set[tuple[str, Any]] | None = None
        self._since = 0.0
        self._told = False

    def look(self, client: SyncPrefectClient, name: str | None, say: Callable[[str], None]) -> None:
        """Tell ``say``, once, if no worker has given a sign of life for too long."""
        if name is None or self._told:
            return
        workers = client.read_workers_for_work_pool(name)
        known = {(worker.name, worker.last_heartbeat_time) for worker in workers}
        now = time.monotonic()
        if known != self._known:
            self._known, self._since = known, now
        elif now - self._since >= self._idle:
            self._told = True
            say(
                f"no worker of the work pool {name!r} has shown itself for {duration(self._idle)}; "
                f"the run waits for one: prefect worker start --pool {name}"
            )


def _say_the_rest(
    client: SyncPrefectClient, run: UUID, after: int, say: Callable[[str], None], pause: float
) -> None:
    """Give the lines that come after the final state: a run sends its log every other second."""
    for _ in range(2):
        time.sleep(pause)
        for line in _log(client, run, after):
            after += 1
            say(line)


def _log(client: SyncPrefectClient, run: UUID, after: int) -> Iterator[str]:
    """Yield the messages of a run's log after the first ``after`` ones."""
    of_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run]))
    while True:
        page = client.read_logs(of_run, limit=PAGE, offset=after, sort=LogSort.TIMESTAMP_ASC)
        for line in page:
            yield line.message
        after += len(page)
        if len(page) < PAGE:
            return


def exit_code(state: State[Any]) -> int:
    """Return the exit code of a final state: of a failed run, the one in its message."""
    if state.is_completed():
        return 0
    if state.is_cancelled():
        return INTERRUPTED
    code = EXIT_CODE.search(state.message or "")
    return int(code[1]) if code else 1


def _ended(client: SyncPrefectClient, flow_run: FlowRun, state: State[Any]) -> Ended:
    of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run.id]))
    prefix = key("report", "")
    report = None
    for artifact in client.read_artifacts(artifact_filter=of_run):
        if (artifact.key or "").startswith(prefix):
            report = _address(str(artifact.data))
    name = state.name or state.type.value
    return Ended(name, state.message or "", exit_code(state), report)


def _address(link: str) -> str:
    """Return the address in a Markdown link, as Prefect keeps link artifacts."""
    address = link.rpartition("](")[2]
    return address.removesuffix(")")
