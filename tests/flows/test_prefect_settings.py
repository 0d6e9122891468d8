"""The environment variables that Prefect reads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flows import prefect_settings


def test_what_the_user_set_for_prefect_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {"PREFECT_HOME": "/theirs"})
    prefect_settings.prepare(tmp_path / "ours")
    assert os.environ["PREFECT_HOME"] == "/theirs"
    assert os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
