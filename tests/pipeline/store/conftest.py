"""Fixtures for the tests of the store: stores, and remotes of several kinds."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from rarefy.pipeline.store.store import Store
from tests.bucket import served


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return Store(tmp_path / "other")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bucket of a local S3 server; credentials come from the environment."""
    with served() as name:
        yield name


@pytest.fixture(params=["file", "memory", "s3"])
def url(request, tmp_path: Path) -> str:
    if request.param == "s3":
        return f"s3://{request.getfixturevalue('bucket')}/{uuid.uuid4().hex}"
    if request.param == "file":
        return f"file://{tmp_path}/remote"
    return f"memory://{uuid.uuid4().hex}/rarefy"


@pytest.fixture
def shared(bucket: str) -> str:
    """A remote that has conditional writes."""
    return f"s3://{bucket}/{uuid.uuid4().hex}"
