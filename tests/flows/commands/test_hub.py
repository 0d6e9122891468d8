"""Push a bundle to the Hub on the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import hub_uploads
from tests.desk import Desk
from tests.hub import TOKEN
from tests.project import Project, Said

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_a_run_s_bundle_is_pushed_in_the_hub_s_form(here: Project, tmp_path: Path) -> None:
    with hub_uploads.serve() as (hub, _):
        given = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        environment = given | hub.environment(tmp_path) | {"HF_TOKEN": TOKEN}
        words = ["hub", "push", "tiny", "me/tiny", "--license", "mit", "--json"]
        done = subprocess.run(
            [sys.executable, "-m", "rarefy", *words],
            env=environment | {"PYTHONPATH": f"{ROOT}:{environment['PYTHONPATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        repository = hub.repositories["models", "me/tiny"]
        head = repository.branches["main"]
        assert said["commit"] == f"{hub.url}/me/tiny/commit/{head}"
        assert {"README.md", "config.json", "onnx/model.onnx"} <= set(repository.commits[head])
        assert TOKEN not in done.stdout + done.stderr


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The card that is pushed; nothing is asked of a Hub."""
    from exporters.forms import hub_push

    found = {}

    def push(folder: Path, repository: str, **options: object) -> str:
        found[repository] = (folder / "README.md").read_text()
        return f"https://huggingface.co/{repository}/commit/0"

    monkeypatch.setattr(hub_push, "check", lambda repository: None)
    monkeypatch.setattr(hub_push, "push", push)
    monkeypatch.setattr(hub_push, "other_weights", lambda *_: found.get("others", []))
    return found


def test_the_card_loads_the_repository_that_it_is_in(desk: Desk, pushed: dict[str, str]) -> None:
    assert desk.rarefy("hub", "push", "tiny", "me/tiny").code == 0
    assert '.from_pretrained("me/tiny")' in pushed["me/tiny"]
    assert "OWNER/NAME" not in pushed["me/tiny"]


def test_weights_that_stay_from_another_model_are_named(desk: Desk, pushed: dict[str, Any]) -> None:
    pushed["others"] = ["model.safetensors"]
    said = desk.rarefy("hub", "push", "tiny", "me/tiny")
    assert said.code == 0
    assert "note: model.safetensors: still there, and config.json and the card are" in said.err


def test_a_bundle_that_missed_its_budgets_is_pushed_with_a_note(
    desk: Desk, pushed: dict[str, str]
) -> None:
    assert "verdict" not in desk.rarefy("hub", "push", "tiny", "me/tiny").err
    desk.verdict("fail")
    said = desk.rarefy("hub", "push", "tiny", "me/tiny")
    assert said.code == 0
    assert "note: the verdict on this bundle is fail: " in said.err
    said = desk.rarefy("hub", "push", "tiny", "me/tiny", "--json")
    assert json.loads(said.out)["verdict"] == "fail"


def test_a_wrong_name_is_refused_before_the_bundle_is_read(rarefy: Callable[..., Said]) -> None:
    said = rarefy("hub", "push", "nothing", "no-owner")
    assert said.code == 2
    assert "OWNER/NAME" in said.err


def test_the_token_is_no_option(rarefy: Callable[..., Said]) -> None:
    assert "--token" not in rarefy("hub", "push", "--help").out
