"""Hold Prefect's limit of this machine while something is measured, if a server is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rarefy.flows.server import prefect_settings
from rarefy.flows.server import server as prefect_server
from rarefy.pipeline.measure import exclusive
from rarefy.pipeline.store.home import Home


@contextmanager
def limited(home: Home, verbose: bool = False) -> Iterator[None]:
    """Within this context, measurements hold the limit; without PREFECT_API_URL there is none.

    Raises ProviderError if the server does not answer.
    """
    if prefect_server.api_url() is None:
        yield
        return
    prefect_server.require("measuring alone on this machine", "rarefy sweep …, or unset it")
    prefect_settings.prepare(home.prefect, verbose)
    from rarefy.flows.server import limits  # Prefect reads its settings when it is imported

    with exclusive.also(limits.limit_of(None)):
        yield
