"""A small bundle with random weights, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline.measure import bundles


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles.make(tmp_path_factory.mktemp("load") / "bundle")
