"""Versions are read from metadata, under both package names of ONNX Runtime."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from rarefy.pipeline.terms.digests import distribution_version


def test_an_installed_version_is_that_of_its_metadata() -> None:
    assert distribution_version("numpy") == importlib.metadata.version("numpy")
    assert distribution_version("no-such-distribution") is None


def test_the_build_for_gpus_counts_as_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "imagined_gpu-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: imagined-gpu\nVersion: 1.2\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert distribution_version("imagined") == "1.2"
