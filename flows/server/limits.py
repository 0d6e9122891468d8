"""Prefect's global concurrency limit of the machine that measures: one flow at a time.

The lock of ``rarefy.pipeline.measure.exclusive`` holds for one user's processes; this
limit holds wherever the
machine runs flows for the same server: other users, containers. Import it after
``prefect_settings.prepare``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import get_current_settings

from rarefy.flows.server import retry
from rarefy.pipeline.measure import exclusive
from rarefy.pipeline.measure.exclusive import Waiting
from rarefy.pipeline.terms.errors import ProviderError

LEASE = 60.0
"""Seconds after which the limit is free again if its holder was killed; Prefect's least."""
LOCKED = 423
"""The HTTP status with which the server says that the limit is taken."""

_log = logging.getLogger(__name__)


def name(machine: str | None = None) -> str:
    """Return the name of a machine's limit, by default of this one."""
    return f"rarefy-measures-{exclusive.plain(machine) if machine else exclusive.machine()}"


def create(limit: str) -> None:
    """Create a limit of one, unless it exists: an administrator may have changed it.

    Raises ProviderError if this user may not.
    """
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(limit)
        except ObjectNotFound:
            request = GlobalConcurrencyLimitCreate(name=limit, limit=1)
            try:
                client.create_global_concurrency_limit(request)
            except ObjectAlreadyExists:
                return  # another flow was faster
            except PrefectHTTPStatusError as error:
                raise ProviderError(
                    f"the server does not let this user create the limit {limit!r} "
                    f"({error.response.status_code}); have somebody run: "
                    f"prefect gcl create {limit} --limit 1"
                ) from error


def limit_of(machine: str | None) -> exclusive.Limit | None:
    """Return what holds the limit of a machine; None if no server is configured."""
    if not get_current_settings().api.url:
        return None
    return lambda waiting: _held(name(machine), waiting)


@contextmanager
def _held(limit: str, waiting: Waiting) -> Iterator[None]:
    create(limit)
    slot = ExitStack()
    try:
        slot.enter_context(_slot(limit, 0))
    except ConcurrencySlotAcquisitionError as error:
        response = getattr(error.__cause__, "response", None)
        if response is None or response.status_code != LOCKED:
            raise
        # A server with leases in memory that was restarted meanwhile holds it for nobody.
        free = f"prefect gcl update {limit} --active-slots 0"
        waiting(f"{exclusive.WHY} (if none is: {free})")
        slot.enter_context(_slot(limit, None))
    try:
        yield
    finally:
        try:
            slot.close()
        except Exception as error:  # what was measured counts; the lease runs out by itself
            if not retry.may_pass(error):
                raise
            _log.warning("%s is held for a minute more: %s", limit, error)


def _slot(limit: str, retries: int | None) -> AbstractContextManager[None]:
    # A lease that cannot be renewed ends no measurement: while the server is away nobody else can
    # take the limit, and the machine's own lock is still held.
    return concurrency(
        limit,
        strict=True,
        max_retries=retries,
        lease_duration=LEASE,
        raise_on_lease_renewal_failure=False,
    )
