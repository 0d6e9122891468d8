"""A folder behind a URL: what it refuses is said in one line, and nothing is made by mistake."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from pipeline.store import disk, remote, remote_files
from pipeline.store.remote_files import RemoteFiles
from pipeline.store.store import Store
from pipeline.store.tags import NoTagError
from pipeline.terms.errors import ProviderError, RecipeError
from tests.pipeline.store.artifacts import publish

FORK = multiprocessing.get_context("fork")


def test_a_folder_that_is_not_mounted_is_said_and_not_made(store, tmp_path):
    made, url = publish(store), f"file://{tmp_path}/not/mounted"
    for use in (
        lambda: remote.push(store, made.digest, url),
        lambda: remote.pull(store, url, "production"),
    ):
        with pytest.raises(RecipeError, match="no such bucket or folder") as caught:
            use()
        assert not isinstance(caught.value, NoTagError)
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (PermissionError(13, "Access Denied"), ProviderError, "no permission: .*Access Denied"),
        (ConnectionError("refused\nlong story"), ProviderError, "ConnectionError: refused$"),
        (TimeoutError(), ProviderError, "TimeoutError: no reason given"),
        (OSError(28, "No space left on device"), ProviderError, "no space left while copying"),
        (NotImplementedError("read-only"), ProviderError, "NotImplementedError: read-only"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_a_remote_refuses_is_one_line(store, error, kind, words, monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    def refuse(*_arguments, **_named):
        raise error

    made, url = publish(store), "memory://refusing/x"
    for method in ("cat_file", "pipe_file", "put_file"):
        monkeypatch.setattr(MemoryFileSystem, method, refuse)
    for use in (
        lambda: remote.push(store, made.digest, url),
        lambda: remote.pull(store, url, "production"),
    ):
        with pytest.raises(kind, match=f"memory://refusing/x: {words}") as caught:
            use()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "kind", "words"),
    [
        ("foo://bucket/x", RecipeError, "Protocol not known: foo"),
        ("", RecipeError, "a remote needs a URL"),
        ("sftp://user:secret@host/x", RecipeError, "the URL contains credentials"),
    ],
)
def test_a_url_that_is_none(store, url, kind, words):
    with pytest.raises(kind, match=words) as caught:
        remote.pull(store, url, "production")
    assert "secret" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_said_and_not_made(store, bucket):
    import boto3

    made, url = publish(store), "s3://modles/rarefy"
    for use in (
        lambda: remote.push(store, made.digest, url, "production"),
        lambda: remote.pull(store, url, "production"),
    ):
        with pytest.raises(RecipeError, match="no such bucket or folder: modles") as caught:
            use()
        assert not isinstance(caught.value, NoTagError)
    assert [each["Name"] for each in boto3.client("s3").list_buckets()["Buckets"]] == [bucket]


def test_a_protocol_whose_package_is_missing(store, monkeypatch):
    known = {"class": "nosuchfs.System", "err": "Install nosuchfs"}
    monkeypatch.setitem(remote_files.known_implementations, "nosuch", known)
    with pytest.raises(
        ProviderError, match="'nosuch' needs another package; run: pip install nosuchfs"
    ):
        remote.pull(store, "nosuch://bucket/x", "production")


def test_the_web_is_read_only(store):
    class Web:
        protocol = ("http", "https")

    with pytest.raises(RecipeError, match="this remote is read-only"):
        RemoteFiles("https://models.example/x", Web(), "x").check_writable()


def test_a_place_that_may_be_mistyped_is_said(store, bucket, tmp_path):
    made = publish(store)
    remote.push(store, made.digest, f"s3://{bucket}/team/rarefy", "production")
    for url in (f"s3://{bucket}/team/rarefy", f"s3://{bucket}/team/another", f"file://{tmp_path}"):
        RemoteFiles.open(url).check_exists()
    for url, words in {
        f"s3://{bucket}/team/rarfey": "nothing is there; did you mean 'rarefy'",
        "s3://modles/team/rarefy": "no such bucket or folder: modles",
        f"file://{tmp_path}/nowhere": "no such folder; correct the URL, or create the folder",
    }.items():
        with pytest.raises(RecipeError, match=words):
            RemoteFiles.open(url).check_exists()


@pytest.mark.parametrize(("method", "at"), [("put_file", 1), ("pipe_file", 0)])
def test_a_push_that_is_killed_leaves_what_another_published_meanwhile(
    store, other, tmp_path, monkeypatch, method, at
):
    """It looked before the other push and sends afterwards, to an artifact that a tag points at."""
    made, url = publish(store), f"file://{tmp_path}/remote"
    sizes = remote.Remote.sizes

    def pushed_meanwhile(there, folder):
        found = sizes(there, folder)
        monkeypatch.setattr(remote.Remote, "sizes", sizes)
        remote.push(store, made.digest, url, "production")
        monkeypatch.setattr(there.system, method, killed)
        return found

    def killed(*arguments, **_named):
        Path(arguments[at]).touch()
        os._exit(9)

    monkeypatch.setattr(remote.Remote, "sizes", pushed_meanwhile)
    process = FORK.Process(target=remote.push, args=(store, made.digest, url))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    monkeypatch.undo()
    there = Store(tmp_path / "remote")
    assert there.verify(made.digest) == []
    assert other.verify(remote.pull(other, url, "production").digest) == []
    (left,) = disk.temporaries(tmp_path / "remote")
    remote.push(store, publish(store, "second", "2" * 64).digest, url)
    assert left.exists()
    os.utime(left, (0, 0))
    remote.push(store, publish(store, "third", "3" * 64).digest, url)
    assert not left.exists()
