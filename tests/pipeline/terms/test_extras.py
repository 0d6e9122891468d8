"""The packages of an extra are named as pip takes them, and by rarefy's own metadata."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path

import pytest

from rarefy.pipeline.terms import extras

PROJECT = Path(__file__).parents[3] / "pyproject.toml"
EXTRAS = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]


@pytest.mark.parametrize("extra", ["openvino", "mlflow", "sweep", "dask", "ray"])
def test_what_can_be_installed_today_is_named(extra: str) -> None:
    pip, install, *packages = shlex.split(extras.remedy(extra))
    assert (pip, install) == ("pip", "install")
    assert packages == EXTRAS[extra]
