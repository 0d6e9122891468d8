"""Models and data at URLs: what is downloaded, pinned and continued, and what every fault says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from rarefy.pipeline.sources import references, urls
from rarefy.pipeline.store.remote.files import Description
from rarefy.pipeline.terms.errors import (
    DataError,
    IntegrityError,
    ModelError,
    ProviderError,
    RarefyError,
)
from tests import bucket as buckets
from tests import web as webs
from tests.web import Web

ROWS = b'{"text": "a", "label": 0}\n' * 100_000
SHA256 = hashlib.sha256(ROWS).hexdigest()


@pytest.fixture
def web() -> Iterator[Web]:
    with webs.served() as web:
        web.files["data/rows.jsonl"] = ROWS
        yield web


@pytest.fixture(autouse=True)
def home(tmp_path: Path) -> Iterator[Path]:
    urls.begin_plan(tmp_path / "home")
    yield tmp_path / "home"
    urls.begin_plan(Path(".rarefy"))


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with buckets.served() as name:
        yield name


def read(reference: str) -> bytes:
    return references.data_file(reference, Path(), "data.train").read_bytes()


def stored(home: Path) -> list[str]:
    """Return the folders of whole downloads, and files of parts."""
    folder = home / "downloads"
    wholes = [path.name for path in folder.glob("*") if path.suffix == ""]
    parts = [path.name for path in folder.glob("*.part/*")]
    return wholes + parts


def test_a_data_file_is_downloaded_once(web: Web, home: Path) -> None:
    reference = f"{web.url}/data/rows.jsonl"
    path = references.data_file(reference, Path(), "data.train")
    assert path.name == "rows.jsonl"
    assert path.is_relative_to(home)
    assert path.read_bytes() == ROWS
    urls.begin_plan(home)
    assert references.data_file(reference, Path(), "data.train") == path
    assert web.sent == ["data/rows.jsonl"]


def test_a_plan_asks_a_server_once_for_a_file(web: Web) -> None:
    reference = f"{web.url}/data/rows.jsonl"
    read(reference)
    requests = len(web.asked)
    read(reference)
    assert len(web.asked) == requests


def test_a_file_with_its_digest_needs_no_server_once_it_is_here(web: Web, home: Path) -> None:
    reference = f"{web.url}/data/rows.jsonl#sha256={SHA256}"
    assert read(reference) == ROWS
    requests = len(web.asked)
    urls.begin_plan(home)
    web.files.clear()
    assert read(reference) == ROWS
    assert len(web.asked) == requests


def test_a_damaged_download_is_made_again(web: Web, home: Path) -> None:
    reference = f"{web.url}/data/rows.jsonl"
    path = references.data_file(reference, Path(), "data.train")
    path.write_bytes(ROWS[:-1] + b"x")
    urls.begin_plan(home)
    assert read(reference) == ROWS


def test_a_file_that_changes_between_two_runs_is_downloaded_again(web: Web, home: Path) -> None:
    """A run in another process has planned with nothing."""
    reference = f"{web.url}/data/rows.jsonl"
    read(reference)
    web.files["data/rows.jsonl"] = ROWS[26:]
    urls.begin_plan(home)
    with pytest.raises(
        DataError, match=r"changed after it was planned \(another ETag\); run again"
    ):
        read(reference)
    assert len(stored(home)) == 1
    assert read(reference) == ROWS[26:]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_connection_is_continued(web: Web, home: Path, ranges: bool) -> None:
    web.cut, web.cuts, web.ranges = 1_000_000, 1, ranges
    assert read(f"{web.url}/data/rows.jsonl") == ROWS
    starts = [wanted for method, _, wanted in web.asked if method == "GET" and wanted]
    if ranges:
        assert int(starts[0].removeprefix("bytes=").partition("-")[0]) == 1_000_000


def test_a_connection_that_breaks_every_time_is_continued_by_the_next_run(
    web: Web, home: Path
) -> None:
    web.cut, web.cuts = 500_000, 3
    reference = f"{web.url}/data/rows.jsonl"
    with pytest.raises(ProviderError, match="check the address, the network") as caught:
        read(reference)
    assert one_line(caught.value)
    assert stored(home) == ["rows.jsonl"], "a part, to be continued"
    web.asked.clear()
    assert read(reference) == ROWS
    first = next(wanted for method, _, wanted in web.asked if method == "GET")
    assert first is not None, "not from the start"


def one_line(error: RarefyError) -> bool:
    return "\n" not in str(error)


def test_a_missing_file_is_said_and_nothing_is_stored(web: Web, home: Path) -> None:
    with pytest.raises(DataError, match=r"^data\.train: http.*/gone\.csv: .*gone\.csv \(404\)$"):
        read(f"{web.url}/gone.csv")
    assert stored(home) == []


def test_a_wrong_digest_is_said_and_nothing_is_stored(web: Web, home: Path) -> None:
    with pytest.raises(IntegrityError, match=f"other bytes: their sha256 is {SHA256}$") as caught:
        read(f"{web.url}/data/rows.jsonl#sha256={'0' * 64}")
    assert one_line(caught.value)
    assert stored(home) == []


def test_a_file_that_changes_on_the_way_is_said_and_nothing_is_stored(web: Web, home: Path) -> None:
    web.changes["data/rows.jsonl"] = ROWS[::-1]
    with pytest.raises(DataError, match=r"changed while it was downloaded; run again$"):
        read(f"{web.url}/data/rows.jsonl")
    assert stored(home) == []


def test_a_server_that_does_not_answer_is_exit_5(web: Web, home: Path) -> None:
    with pytest.raises(ProviderError, match=r"Cannot connect.*name its path$") as caught:
        read("http://127.0.0.1:9/rows.csv")
    assert caught.value.exit_code == 5
    assert one_line(caught.value)
    assert stored(home) == []


def test_what_may_not_be_read_is_exit_5(web: Web, home: Path) -> None:
    web.denied.add("secret.csv")
    with pytest.raises(ProviderError, match=r"no permission: .*403.*credentials in the env"):
        read(f"{web.url}/secret.csv")
    assert stored(home) == []


def test_a_refused_part_of_a_model_is_named(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    """Without it the model is another, with the pooling that is the default."""
    for name in ("config.json", "tokenizer.json"):
        web.files[f"model/{name}"] = b"{}"
    web.files["model/model.safetensors"] = b"x"
    web.denied.add("model/modules.json")
    references.model_directory(f"{web.url}/model", Path())
    assert "refused, and so taken as absent: modules.json" in caplog.text


def test_what_arrives_by_http_needs_a_digest_also_behind_a_redirection(web: Web) -> None:
    description = Description(1, "etag", "http://mirror.example/rows.csv")
    files = {"rows.csv": urls.File("rows.csv", description, 10)}
    asked = urls.Download.parse("https://example.com/rows.csv", "data.train", DataError)
    with pytest.raises(DataError, match=r"sends rows\.csv from http://.*add #sha256=…$"):
        asked.bring(web.url, lambda _: files, lambda _: "")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("http://example.org/rows.csv", r"write https://, or add #sha256="),
        ("https://example.org/rows.csv#sha256=12", r"after '#' stands sha256= and 64"),
        ("https://example.org/rows.csv#production", r"after '#' stands sha256= and 64"),
        ("https://example.org/", r"the address names no file"),
        ("https://example.org", r"the address names no file"),
        ("s3://bucket", r"the address names no file"),
        ("https://user:secret@example.org/rows.csv", r"the URL contains credentials"),
    ],
)
def test_references_that_are_none(reference: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(reference)
    assert "secret" not in str(caught.value)


def test_a_server_without_etags_needs_a_digest(web: Web) -> None:
    web.etags = False
    reference = f"{web.url}/data/rows.jsonl"
    with pytest.raises(DataError, match=r"gives no ETag .* add #sha256="):
        read(reference)
    assert read(f"{reference}#sha256={SHA256}") == ROWS


def test_a_file_that_is_too_large_is_not_downloaded(
    web: Web, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urls, "LARGEST", 1000)
    with pytest.raises(DataError, match="2,600,000 bytes; at most 1,000 are downloaded"):
        read(f"{web.url}/data/rows.jsonl")
    assert web.sent == []
    assert stored(home) == []


def test_a_server_that_sends_more_than_it_said_is_stopped(web: Web, home: Path) -> None:
    web.extra = b"x" * 20_000_000
    with pytest.raises(ProviderError, match="has more than the 2,600,000 bytes that it had"):
        read(f"{web.url}/data/rows.jsonl")
    assert sum(path.stat().st_size for path in home.rglob("*")) < 20_000_000


MODEL = {
    "config.json": b'{"model_type": "bert"}',
    "tokenizer.json": b"{}",
    "model.safetensors": b"weights" * 1000,
    "README.md": b"---\nlicense: mit\n---\n",
}


def serve_model(web: Web, **files: bytes) -> str:
    for name, data in (MODEL | files).items():
        web.files[f"encoder/{name}"] = data
    return f"{web.url}/encoder"


def names(folder: Path) -> set[str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix() for path in paths} - {urls.SUMS}


def test_a_model_is_its_files_of_known_names(web: Web, home: Path) -> None:
    reference = serve_model(web)
    web.files["encoder/pytorch_model.bin"] = b"pickle"
    web.files["encoder/modeling.py"] = b"code"
    web.denied.update(f"encoder/{name}" for name in ("vocab.txt", "modules.json"))
    folder, revision = references.model_directory(reference, Path())
    assert names(folder) == set(MODEL)
    assert (folder / "model.safetensors").read_bytes() == MODEL["model.safetensors"]
    assert revision is None
    urls.begin_plan(home)
    assert references.model_directory(f"{reference}/", Path())[0] == folder
    assert sorted(web.sent) == sorted(f"encoder/{name}" for name in MODEL)


def test_shards_and_settings_of_sentence_transformers_come_along(web: Web) -> None:
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = {"weight_map": {"a": shards[0], "b": shards[1]}}
    modules = [{"path": "", "type": "x.Transformer"}, {"path": "1_Pooling", "type": "x.Pooling"}]
    others = {
        "model.safetensors.index.json": json.dumps(index).encode(),
        "modules.json": json.dumps(modules).encode(),
        "1_Pooling/config.json": b"{}",
        **dict.fromkeys(shards, b"weights"),
    }
    reference = serve_model(web, **others)
    del web.files["encoder/model.safetensors"]
    folder, _ = references.model_directory(reference, Path())
    assert names(folder) == {*MODEL, *others} - {"model.safetensors"}


@pytest.mark.parametrize(
    "index",
    [
        b"no json",
        b"[" * 100_000,
        b'{"weight_map": {"a": "../../etc/passwd.safetensors"}}',
        b'{"weight_map": {"a": "code.py"}}',
        b'{"weight_map": {}}',
        b'{"weight_map": {"a": 1}}',
    ],
)
def test_an_index_that_names_anything_else_is_refused(web: Web, home: Path, index: bytes) -> None:
    reference = serve_model(web, **{"model.safetensors.index.json": index})
    del web.files["encoder/model.safetensors"]
    with pytest.raises(ModelError, match=r"^model: http.*model\.safetensors\.index\.json: "):
        references.model_directory(reference, Path())
    assert stored(home) == []


@pytest.mark.parametrize(
    ("missing", "message"),
    [("config.json", r"no file config\.json \(404\)"), ("model.safetensors", "no model.safetens")],
)
def test_a_model_without_a_needed_file_is_said(
    web: Web, home: Path, missing: str, message: str
) -> None:
    reference = serve_model(web)
    del web.files[f"encoder/{missing}"]
    with pytest.raises(ModelError, match=message):
        references.model_directory(reference, Path())
    assert stored(home) == []


def test_the_digest_of_a_model_is_that_of_what_sha256sum_prints(web: Web, home: Path) -> None:
    reference = serve_model(web)
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in MODEL.items()]
    digest = hashlib.sha256("".join(sorted(lines, key=lambda line: line[66:])).encode()).hexdigest()
    with pytest.raises(IntegrityError, match=f"their sha256 is {digest}$"):
        references.model_directory(f"{reference}#sha256={'0' * 64}", Path())
    assert stored(home) == []
    folder, _ = references.model_directory(f"{reference}#sha256={digest}", Path())
    assert names(folder) == set(MODEL)


def test_a_bucket_s_files_are_downloaded_with_the_environment_s_credentials(
    bucket: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    client = boto3.client("s3")
    client.put_object(Bucket=bucket, Key="data/rows.jsonl", Body=ROWS)
    for name, data in MODEL.items():
        client.put_object(Bucket=bucket, Key=f"encoder/{name}", Body=data)
    reference = f"s3://{bucket}/data/rows.jsonl"
    assert read(reference) == ROWS
    folder, _ = references.model_directory(f"s3://{bucket}/encoder", Path())
    assert names(folder) == set(MODEL)
    client.put_object(Bucket=bucket, Key="data/rows.jsonl", Body=ROWS[26:])
    urls.begin_plan(home)
    with pytest.raises(DataError, match="another ETag"):
        read(reference)
    with pytest.raises(DataError, match=r"gone\.csv \(404\)$"):
        read(f"s3://{bucket}/gone.csv")
    with pytest.raises(DataError, match=r"\(404\)$"):
        read("s3://no-such-bucket/rows.csv")
    with pytest.raises(DataError, match=r"encoder \(404\)$"):
        read(f"s3://{bucket}/encoder")


def test_a_bucket_without_credentials_is_exit_5(
    bucket: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(ProviderError, match="credentials in the environment") as caught:
        read(f"s3://{bucket}/other.csv")
    assert one_line(caught.value)
    assert stored(home) == []
    s3fs.S3FileSystem.clear_instance_cache()
