"""A small classifier as a bundle, made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rarefy.pipeline.model.pooling import Pooling
from tests.exporters.forms import bundles
from tests.templates import make_once


@pytest.fixture(scope="session")
def made_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_once(tmp_path_factory, "classifier", lambda at: bundles.classifier(at / "made"))
    return made / "made" / "bundle"


@pytest.fixture(scope="session")
def made_embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_once(
        tmp_path_factory, "embedder", lambda at: bundles.embedder(at / "made", Pooling())
    )
    return made / "made" / "bundle"


@pytest.fixture
def classifier(made_classifier: Path, tmp_path: Path) -> Path:
    """A copy of the classifier, to be changed."""
    return shutil.copytree(made_classifier, tmp_path / "classifier")


@pytest.fixture
def embedder(made_embedder: Path, tmp_path: Path) -> Path:
    """A copy of a bundle that embeds, to be changed."""
    return shutil.copytree(made_embedder, tmp_path / "embedder")
