"""The documentation's pages that reports link to: one constant for each topic."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, metadata
from typing import Final

INCONCLUSIVE: Final = "docs/how-to/resolve-an-inconclusive-verdict.md"
ACCURACY: Final = "docs/how-to/choose-a-student.md"
SPEED: Final = "docs/how-to/prune.md"
SIZE: Final = "docs/how-to/quantize.md"
LINEAR: Final = "docs/explanation/accuracy.md"
UNMEASURED: Final = "docs/how-to/troubleshooting.md"
"""Each is a file of the repository."""
FOLDER: Final = "docs/"


@cache
def site() -> str | None:
    """Return the address of the documentation, which the package's metadata have; else None."""
    try:
        entries = metadata("rarefy").get_all("Project-URL") or []
    except PackageNotFoundError:
        return None
    for entry in entries:
        name, _, url = entry.partition(", ")
        if name.lower() == "documentation":
            return str(url)
    return None


def address(page: str, site: str | None) -> str | None:
    """Return a page's address below the documentation's; None without one."""
    if site is None:
        return None
    path = page.removeprefix(FOLDER).removesuffix(".md")
    return f"{site.rstrip('/')}/{path}/"
