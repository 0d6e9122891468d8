"""The environment variables that Prefect reads."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from flows import prefect_settings
from pipeline.terms.errors import ProviderError


def test_what_the_user_set_for_prefect_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {"PREFECT_HOME": "/theirs"})
    prefect_settings.prepare(tmp_path / "ours")
    assert os.environ["PREFECT_HOME"] == "/theirs"
    assert os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"


def test_a_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ProviderError, match="cannot write here: Permission denied") as raised:
        prefect_settings.prepare(tmp_path / "prefect")
    assert raised.value.exit_code == 5
