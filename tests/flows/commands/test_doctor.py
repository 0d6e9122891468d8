"""``rarefy doctor``: report what this machine has."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.project import Said


def test_this_environment_is_healthy(
    tmp_path: Path, rarefy: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    said = rarefy("doctor", "--home", tmp_path / "none", "--json")
    found = {check["name"]: check for check in json.loads(said.out)["checks"]}
    assert [name for name, check in found.items() if check["state"] == "fail"] == []
    assert said.code == 0
    assert found["torch"]["found"] == importlib.metadata.version("torch")
    assert "CPUExecutionProvider" in found["providers"]["found"]
    assert not (tmp_path / "none").exists(), "looking changes nothing"
