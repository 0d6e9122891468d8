"""The documentation's pages that reports link to: one constant for each topic."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, metadata
from typing import Final

INCONCLUSIVE: Final = "docs/measurement.md"
ACCURACY: Final = "docs/students.md"
SPEED: Final = "docs/students.md"
SIZE: Final = "docs/recipe.md"
LINEAR: Final = "docs/students.md"
USE: Final = "docs/serving.md"
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
