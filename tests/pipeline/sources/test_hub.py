"""Models and data of the hub, downloaded by the real client from a server on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants, file_download

from rarefy.pipeline.sources import references
from rarefy.pipeline.terms.errors import DataError, ModelError
from tests import hub as hubs

FILES = {
    "config.json": b"{}",
    "model.safetensors": bytes(range(256)) * 4000,
    "pytorch_model.bin": b"pickled",
    "modeling_evil.py": b"raise SystemExit",
    "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}',
    "README.md": b"# A model\n",
}
ROWS = b'{"text": "a film", "label": "good"}\n'


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that this process uses, with a model and a data set."""
    with hubs.serve() as served:
        template = f"{served.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        served.add("owner/name", FILES)
        served.add("owner/rows", {"data/train.jsonl": ROWS}, kind="datasets")
        yield served


def test_a_name_that_no_folder_has_is_the_hub_s(hub, tmp_path):
    path, revision = references.model_directory("owner/name", tmp_path)
    assert (path / "config.json").is_file()
    assert revision == path.name
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert references.model_directory("owner/name", tmp_path)[1] is None, "a folder comes first"


def test_a_branch_is_pinned_to_its_commit(hub, tmp_path):
    repository = hub.repositories["models", "owner/name"]
    first = repository.branches["main"]
    second = repository.commit(FILES | {"config.json": b'{"new": 1}'})
    old = repository.commit(FILES, branch="v1")
    assert first == old != second
    for reference, commit in (
        ("hub:owner/name", second),
        ("hub:owner/name@main", second),
        ("hub:owner/name@v1", first),
        (f"hub:owner/name@{first}", first),
    ):
        path, revision = references.model_directory(reference, tmp_path)
        assert revision == commit == path.name
        assert json.loads((path / "config.json").read_text()) == (
            {"new": 1} if commit == second else {}
        )


def test_only_what_a_model_needs_is_downloaded_once(hub, tmp_path):
    path, _ = references.model_directory("hub:owner/name@main", tmp_path)
    found = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    assert found == set(FILES) - {"pytorch_model.bin", "modeling_evil.py"}
    hub.asked.clear()
    references.model_directory("hub:owner/name@main", tmp_path)
    assert not [asked for asked in hub.asked if asked[0] == "GET" and "resolve" in asked[1]]


def test_pickled_weights_are_downloaded_if_there_are_no_others(hub, tmp_path):
    hub.add("owner/old", {"config.json": b"{}", "pytorch_model.bin": b"pickled"})
    path, _ = references.model_directory("hub:owner/old", tmp_path)
    assert (path / "pytorch_model.bin").read_bytes() == b"pickled"
    inside = "0_Transformer/pytorch_model.bin"
    hub.add("owner/older", {"modules.json": b"[]", inside: b"pickled"})
    path, _ = references.model_directory("hub:owner/older", tmp_path)
    assert (path / inside).read_bytes() == b"pickled"


def test_a_data_file_of_a_revision(hub, tmp_path):
    repository = hub.repositories["datasets", "owner/rows"]
    first = repository.branches["main"]
    repository.commit({"data/train.jsonl": ROWS * 2})
    for revision, rows in (("main", 2), (first, 1)):
        reference = f"hub:owner/rows@{revision}/data/train.jsonl"
        path = references.data_file(reference, tmp_path, "data.train")
        assert path.read_bytes() == ROWS * rows
        assert path.name == "train.jsonl"


def test_a_download_that_breaks_off_goes_on_where_it_was(hub, tmp_path, monkeypatch):
    """The client keeps whole chunks, which are 10 MB: here they are small."""
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.setattr(file_download.time, "sleep", lambda _: None)
    hub.breaks["model.safetensors"] = [3000, 100_500, 10]
    path, _ = references.model_directory("hub:owner/name", tmp_path)
    assert (path / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert hub.ranges() == ["bytes=3000-", "bytes=103000-", "bytes=103000-"]


def test_a_download_that_keeps_breaking_off_leaves_nothing_half_done(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(file_download.time, "sleep", lambda _: None)
    hub.breaks["model.safetensors"] = [10] * 6
    with pytest.raises(ModelError, match="from the hub: peer closed connection") as caught:
        references.model_directory("hub:owner/name", tmp_path)
    assert caught.value.exit_code == 2
    path, _ = references.model_directory("hub:owner/name", tmp_path)
    assert (path / "model.safetensors").read_bytes() == FILES["model.safetensors"]


REFUSED = "cannot be downloaded from the hub: "
UNKNOWN = (
    REFUSED + "there is no such repository; if it is private, HF_TOKEN has to be a token for it"
)


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("hub:owner/nothing", UNKNOWN),
        ("hub:owner/name@v9", REFUSED + "it has no revision 'v9'"),
        ("hub:not a name", REFUSED + "Repo id must"),
    ],
)
def test_a_model_that_is_not_there(hub, tmp_path, reference, reason):
    with pytest.raises(ModelError) as caught:
        references.model_directory(reference, tmp_path)
    assert str(caught.value).startswith(f"model: {reference}: {reason}")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        ("nothing@main/train.jsonl", UNKNOWN),
        ("rows@v9/data/train.jsonl", REFUSED + "it has no revision 'v9'"),
        ("rows@main/data/x.csv", REFUSED + "revision 'main' has no file 'data/x.csv'"),
        ("rows@main/", "expected hub:owner/name@revision/path/to/file.parquet"),
    ],
)
def test_a_data_file_that_is_not_there(hub, tmp_path, rest, reason):
    with pytest.raises(DataError) as caught:
        references.data_file(f"hub:owner/{rest}", tmp_path, "data.train")
    assert str(caught.value) == f"data.train: hub:owner/{rest}: {reason}"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("closed", "reason"),
    [
        ("gated", "its owner grants access one by one; ask for it on the hub, then set HF_TOKEN"),
        (
            "private",
            "there is no such repository; if it is private, HF_TOKEN has to be a token for it",
        ),
    ],
)
def test_a_closed_repository_needs_the_token(hub, tmp_path, monkeypatch, closed, reason):
    for repository in hub.repositories.values():
        setattr(repository, closed, True)
    with pytest.raises(ModelError) as caught:
        references.model_directory("hub:owner/name", tmp_path)
    assert str(caught.value) == f"model: hub:owner/name: {REFUSED}{reason}"
    rows = "hub:owner/rows@main/data/train.jsonl"
    with pytest.raises(DataError, match=reason):
        references.data_file(rows, tmp_path, "data.train")
    monkeypatch.setenv("HF_TOKEN", hubs.TOKEN)
    assert references.model_directory("hub:owner/name", tmp_path)[0].is_dir()
    assert references.data_file(rows, tmp_path, "data.train").read_bytes() == ROWS


def test_without_the_hub_the_cache_answers_or_the_error_says_why(hub, tmp_path, monkeypatch):
    known = references.model_directory("hub:owner/name@main", tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert references.model_directory("hub:owner/name@main", tmp_path) == known
    offline = "it is not in the local cache, and HF_HUB_OFFLINE rules out the network$"
    with pytest.raises(ModelError, match=offline):
        references.model_directory("hub:owner/other", tmp_path)
    with pytest.raises(DataError, match=offline):
        references.data_file("hub:owner/rows@main/data/train.jsonl", tmp_path, "data.train")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"127\.0\.0\.1:9 does not respond: .*refused$"):
        references.model_directory("hub:owner/other", tmp_path)


def test_the_hub_is_the_one_that_the_environment_names(tmp_path):
    """In a process of its own, because the client reads its environment once."""
    code = """if True:
        from pathlib import Path
        from rarefy.pipeline.sources import references as sources
        print(*sources.model_directory("hub:owner/name@main", Path()))
    """
    with hubs.serve() as hub:
        commit = hub.add("owner/name", FILES).branches["main"]
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | hub.environment(tmp_path / "home"),
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    path, revision = done.stdout.split()
    assert Path(path).is_relative_to(tmp_path / "home")
    assert revision == commit


@pytest.fixture
def published(hub, workshop):
    """The workshop's model and data on the hub, and the keys of a recipe that names them."""
    hub.add("owner/tiny", workshop.folder / "model")
    rows = {f"{name}.jsonl": (workshop.folder / f"{name}.jsonl").read_bytes() for name in SPLITS}
    hub.add("owner/rows", rows, kind="datasets")
    data = {name: f"hub:owner/rows@main/{name}.jsonl" for name in SPLITS}
    return {"model": "hub:owner/tiny@main", "data": data}


SPLITS = ("train", "eval")


def test_a_recipe_with_model_and_data_of_the_hub_runs(hub, workshop, published):
    source = workshop.run("quick:Word", **published)["model"].artifact.manifest.source
    commit = hub.repositories["models", "owner/tiny"].branches["main"]
    assert (source.reference, source.revision) == ("hub:owner/tiny@main", commit)


def test_a_new_commit_on_the_branch_is_a_new_import(hub, workshop, published):
    def fingerprint():
        return workshop.open("quick:Word", **published).plan.steps()[0].fingerprint

    before = fingerprint()
    repository = hub.repositories["models", "owner/tiny"]
    repository.commit(repository.commits[repository.branches["main"]] | {"README.md": b"# New\n"})
    assert fingerprint() != before


def test_the_command_line_plans_it_or_says_in_one_line_why_not(workshop, published, rarefy):
    recipe = workshop.recipe("quick:Word", **published)
    done = rarefy("plan", recipe)
    assert done.code == 0, done.err
    recipe = workshop.recipe("quick:Word", **published | {"model": "hub:owner/tiny@v9"})
    refused = rarefy("plan", recipe)
    assert refused.code == 2
    (line,) = refused.err.strip().splitlines()
    assert line.endswith("cannot be downloaded from the hub: it has no revision 'v9'")
