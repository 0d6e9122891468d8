"""Where the branches of a sweep run, and what runs them."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from urllib.parse import urlparse

from rarefy.flows.server import server as prefect_server
from rarefy.pipeline.terms.errors import RecipeError

On = Literal["inline", "threads", "dask", "ray"]


@dataclass(frozen=True)
class Where:
    """An executor, the number of its workers, and the address of a cluster that runs already."""

    on: On
    workers: int = 1
    address: str | None = None

    @property
    def elsewhere(self) -> bool:
        """Whether the workers may be on other machines. Raises RecipeError if it is no address."""
        if self.address is None:
            return False
        address = self.address
        if "://" not in address:
            address = f"//{address}"
        try:
            host = urlparse(address).hostname
        except ValueError as error:
            raise RecipeError(f"{self.address}: this is not an address: {error}") from None
        return host not in prefect_server.LOOPBACK


class Workers(Protocol):
    """What runs branches: as many at once as it has workers."""

    @property
    def size(self) -> int: ...

    def submit(self, assignment: dict[str, Any]) -> Future[dict[str, Any]]:
        """Start a branch; its future raises if the branch was given up."""
        ...
