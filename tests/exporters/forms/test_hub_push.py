"""A folder is uploaded by the Hub's own library, to a server that speaks the Hub's API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from exporters.forms import hub_push
from pipeline.terms.errors import RecipeError
from tests import hub_uploads
from tests.hub import TOKEN

CODE = """
import json, sys
from pathlib import Path
from exporters.forms import hub_push
from pipeline.terms.errors import RarefyError
folder, repository, private, revision = json.loads(sys.argv[1])
try:
    url = hub_push.push(
        Path(folder), repository, private=private, revision=revision, message="a bundle"
    )
    others = hub_push.other_weights(Path(folder), repository, revision)
    print(json.dumps({"url": url} | ({"others": others} if others else {})))
except RarefyError as error:
    print(json.dumps({"error": str(error), "code": error.exit_code}))
"""
"""In a process of its own: the library reads the environment when it is imported."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "form"
    (made / "onnx").mkdir(parents=True)
    (made / "README.md").write_text("---\nlicense: mit\n---\n# a model\n")
    (made / "config.json").write_text("{}")
    (made / "onnx/model.onnx").write_bytes(bytes(range(256)) * 40)
    return made


def push(hub, folder, repository="me/mine", private=False, revision=None, **changes):
    asked = json.dumps([str(folder), repository, private, revision])
    given = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment = given | hub.environment(folder.parent / "hub") | {"HF_TOKEN": TOKEN} | changes
    done = subprocess.run(
        [sys.executable, "-c", CODE, asked],
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert TOKEN not in done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_new_repository_gets_all_files_in_one_commit(folder):
    with hub_uploads.serve() as (hub, uploads):
        said = push(hub, folder, private=True)
        made = hub.repositories["models", "me/mine"]
        head = made.branches["main"]
        assert said == {"url": f"{hub.url}/me/mine/commit/{head}"}
        assert made.private
        assert len(made.commits) == 2  # the empty one, and ours
        paths = [path for path in folder.rglob("*") if path.is_file()]
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        assert made.commits[head] == files | {".gitattributes": b""}
        assert len(uploads.large) == 1


@pytest.mark.slow
def test_a_branch_is_made_and_main_stays(folder):
    with hub_uploads.serve() as (hub, _):
        made = hub.add("me/mine", {"old.txt": b"old"})
        before = made.branches["main"]
        push(hub, folder, revision="candidate")
        assert made.branches["main"] == before
        assert {"old.txt", "config.json"} <= set(made.commits[made.branches["candidate"]])


@pytest.mark.slow
def test_weights_of_another_model_are_named(folder):
    old = {"onnx/model.onnx": b"old", "model.safetensors": b"old", "onnx/other.onnx": b"", "a": b""}
    with hub_uploads.serve() as (hub, _):
        hub.add("me/mine", old)
        said = push(hub, folder)
        assert said["others"] == ["model.safetensors", "onnx/other.onnx"]


@pytest.mark.slow
@pytest.mark.parametrize(("status", "code"), [(403, 2), (400, 2), (429, 5), (500, 5)])
def test_a_refusal_is_an_error_of_one_line(folder, status, code):
    with hub_uploads.serve() as (hub, uploads):
        hub.add("me/mine", {"old.txt": b"old"})
        uploads.refuses["/api/models/me/mine/commit"] = status
        said = push(hub, folder)
        assert said["code"] == code
        assert "\n" not in said["error"]
        assert ("HF_TOKEN" in said["error"]) is (status == 403)


@pytest.mark.slow
def test_a_wrong_token_is_an_error_that_names_the_variable(folder):
    with hub_uploads.serve() as (hub, uploads):
        said = push(hub, folder, HF_TOKEN="hf_wrong")
        assert (said["code"], uploads.large) == (2, {})
        assert "HF_TOKEN" in said["error"]
        assert "hf_wrong" not in said["error"]


@pytest.mark.slow
def test_a_hub_that_does_not_answer_ends_with_5(folder):
    with hub_uploads.serve() as (hub, _):
        pass
    said = push(hub, folder)
    assert said["code"] == 5
    assert hub.url in said["error"]


@pytest.mark.parametrize("name", ["mine", "a/b/c", "../up", "me/ mine", ""])
def test_a_name_that_is_no_repository_is_refused_before_anything(name):
    with pytest.raises(RecipeError, match="OWNER/NAME"):
        hub_push.check(name)


def test_offline_and_without_a_token_nothing_is_asked(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RecipeError, match="HF_HUB_OFFLINE"):
        hub_push.check("me/mine")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere")
    with pytest.raises(RecipeError, match="set HF_TOKEN"):
        hub_push.check("me/mine")
