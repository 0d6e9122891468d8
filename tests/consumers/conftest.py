"""Tests with the tools that load our bundles; `make test-consumers` runs them, `make test` not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.consumers import bundles, environments
from tests.consumers.page import Page

collect_ignore_glob = [] if os.environ.get(environments.FOLDER) else ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.peer)


@pytest.fixture(scope="session")
def made() -> dict[str, Path]:
    """The folders of bundles: ``demo`` classifies texts, ``float`` as well, ``search`` embeds."""
    return bundles.make(environments.home() / "bundles")


@pytest.fixture(scope="session")
def page() -> Page:
    """The code of docs/how-to/hub.md and docs/how-to/mlflow.md."""
    return Page.read()
