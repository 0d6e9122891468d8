"""A folder of Prefect's whose database has all its tables, made once for all workers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fleet import Fleet
from tests.templates import make_once


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], object]:
    """Return a function that writes a folder of Prefect's whose database has all its tables.

    A server takes twice as long to start if it has to make them.
    """

    def start(folder: Path) -> None:
        fleet = Fleet(folder)
        try:
            fleet.start_server()
        finally:
            fleet.stop("server")

    template = make_once(tmp_path_factory, "prefect", start) / "server" / "prefect"
    return lambda folder: shutil.copytree(template, folder)
