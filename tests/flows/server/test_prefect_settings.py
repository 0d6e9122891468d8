"""The environment variables that Prefect reads."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from rarefy.flows.server import prefect_settings
from rarefy.pipeline.terms.errors import ProviderError


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


@pytest.mark.parametrize(
    ("given", "hosts"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"no_proxy": "a.b, localhost"}, "a.b,localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "a.b"}, "a.b,127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "*"}, "*"),
    ],
)
def test_a_proxy_does_not_stand_before_a_server_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], hosts: str
) -> None:
    """Prefect's client asks the proxy for 127.0.0.1 as well, and a run waits for two minutes."""
    monkeypatch.setattr(os, "environ", {"HTTP_PROXY": "http://127.0.0.1:9", **given})
    prefect_settings.prepare(tmp_path / "ours")
    assert (os.environ["NO_PROXY"], os.environ["no_proxy"]) == (hosts, hosts)
