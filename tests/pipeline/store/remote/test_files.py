"""A folder behind a URL: what it refuses is said in one line, and nothing is made by mistake."""

from __future__ import annotations

import functools
import multiprocessing
import os
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rarefy.flows.server.retry import may_pass
from rarefy.pipeline.store import disk
from rarefy.pipeline.store.remote import artifacts
from rarefy.pipeline.store.remote import files as remote_files
from rarefy.pipeline.store.remote.files import RemoteFiles
from rarefy.pipeline.store.store import Store
from rarefy.pipeline.store.tags import NoTagError
from rarefy.pipeline.terms.errors import IntegrityError, ProviderError, RecipeError
from tests.pipeline.store.artifacts import publish

FORK = multiprocessing.get_context("fork")


class Web(SimpleHTTPRequestHandler):
    """A web server as simple as Python's: it knows no ranges."""

    broken, slow = False, 0.0

    def log_message(self, *_):
        pass

    def send_head(self):
        time.sleep(self.slow)
        return self.send_error(503) if self.broken else super().send_head()


@pytest.fixture
def web(tmp_path, monkeypatch):
    """The address of the remote ``tmp_path/remote`` on the web."""
    from fsspec.implementations.http import HTTPFileSystem

    monkeypatch.setattr(Web, "broken", False)
    HTTPFileSystem.clear_instance_cache()  # its session would keep what a test has changed
    handler = functools.partial(Web, directory=str(tmp_path / "remote"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
    HTTPFileSystem.clear_instance_cache()


def test_a_folder_that_is_not_mounted_is_said_and_not_made(store, tmp_path):
    made, url = publish(store), f"file://{tmp_path}/not/mounted"
    for use in (
        lambda: artifacts.push(store, made.digest, url),
        lambda: artifacts.pull(store, url, "production"),
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
        lambda: artifacts.push(store, made.digest, url),
        lambda: artifacts.pull(store, url, "production"),
    ):
        with pytest.raises(kind, match=f"memory://refusing/x: {words}") as caught:
            use()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "kind", "words"),
    [
        ("foo://bucket/x", RecipeError, "Protocol not known: foo"),
        ("", RecipeError, "a remote needs a URL"),
        ("memory://x#production", RecipeError, "a store's URL without a tag, e.g. memory://x;"),
        ("sftp://user:secret@host/x", RecipeError, "the URL contains credentials"),
    ],
)
def test_a_url_that_is_none(store, url, kind, words):
    with pytest.raises(kind, match=words) as caught:
        artifacts.pull(store, url, "production")
    assert "secret" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_said_and_not_made(store, bucket):
    import boto3

    made, url = publish(store), "s3://modles/rarefy"
    for use in (
        lambda: artifacts.push(store, made.digest, url, "production"),
        lambda: artifacts.pull(store, url, "production"),
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
        artifacts.pull(store, "nosuch://bucket/x", "production")


def test_the_web_is_read_only(store):
    class Web:
        protocol = ("http", "https")

    with pytest.raises(RecipeError, match="this remote is read-only"):
        RemoteFiles("https://models.example/x", Web(), "x").check_writable()


def test_a_download_from_a_server_without_ranges_begins_again(store, other, tmp_path, web):
    made = publish(store)
    artifacts.push(store, made.digest, f"file://{tmp_path}/remote", "production")
    (other.work(f"pull-{made.digest}") / "a.txt").write_text("he")
    assert other.verify(artifacts.pull(other, f"{web}", "production").digest) == []


def test_a_web_server_that_is_busy_is_not_one_without_the_file(store, tmp_path, web, monkeypatch):
    made = publish(store)
    artifacts.push(store, made.digest, f"file://{tmp_path}/remote")
    there, path = RemoteFiles.open(web), f"artifacts/sha256/{made.digest}/a.txt"
    (tmp_path / "begun").write_text("he")
    monkeypatch.setattr(Web, "broken", True)
    for use in (
        lambda: there.fetch(path, tmp_path / "begun", 5),
        lambda: there.fetch(path, tmp_path / "new", 5),
        there.check_exists,
    ):
        with pytest.raises(ProviderError, match="503") as caught:
            use()
        assert may_pass(caught.value)
    monkeypatch.setattr(Web, "broken", False)
    with pytest.raises(IntegrityError, match="none is missing on the remote"):
        there.fetch("none", tmp_path / "none", 5)


def test_a_download_from_the_web_takes_as_long_as_it_goes_on(tmp_path, web, monkeypatch):
    import aiohttp

    (tmp_path / "remote").mkdir()
    (tmp_path / "remote" / "a.txt").write_text("hello")
    monkeypatch.setattr(aiohttp.client, "DEFAULT_TIMEOUT", aiohttp.ClientTimeout(total=0.1))
    monkeypatch.setattr(Web, "slow", 0.5)
    RemoteFiles.open(web).fetch("a.txt", tmp_path / "a.txt", 5)
    assert (tmp_path / "a.txt").read_text() == "hello"


@pytest.mark.slow
def test_a_download_from_s3_that_breaks_off_is_no_damage_there(store, other, shared, monkeypatch):
    """Its file system downloads large files in parts, into a file of the full size."""
    made = publish(store)
    artifacts.push(store, made.digest, shared)
    system = RemoteFiles.open(shared).system
    client = system.s3
    whole = client.get_object

    async def get_object(**options):
        if "a.txt" in options["Key"] and "Range" in options:
            raise ConnectionError("the line is dead")
        return await whole(**options)

    monkeypatch.setattr(system, "default_block_size", 2)
    with monkeypatch.context() as patch:
        patch.setattr(client, "get_object", get_object)
        with pytest.raises(ProviderError, match="the line is dead"):
            artifacts.pull(other, shared, made.digest)
    assert other.verify(artifacts.pull(other, shared, made.digest).digest) == []


@pytest.mark.parametrize("error", [ConnectionError("dead"), PermissionError("denied")])
def test_a_bucket_that_cannot_be_asked_for_is_not_a_missing_one(shared, monkeypatch, error):
    there = RemoteFiles.open(shared)

    async def head_bucket(**_):
        raise error

    monkeypatch.setattr(there.system.s3, "head_bucket", head_bucket)
    if isinstance(error, PermissionError):
        there.check_writable()  # one may be allowed to write, and not to ask for the bucket
        return
    with pytest.raises(ProviderError, match="ConnectionError: dead") as caught:
        there.check_writable()
    assert may_pass(caught.value)


def test_what_cannot_be_listed_is_not_said_to_be_missing(store, monkeypatch):
    url = "memory://unlisted/x"
    made = publish(store)
    artifacts.push(store, made.digest, url, "staging")
    there = artifacts.Remote.open(url)

    def refuse(*_arguments, **_options):
        raise PermissionError("no listing")

    monkeypatch.setattr(there.system, "ls", refuse)
    with pytest.raises(ProviderError, match="no permission: no listing"):
        there.resolve(made.digest[:8])
    with pytest.raises(NoTagError, match="no tag 'production'"):
        there.resolve("production")


def test_a_place_that_may_be_mistyped_is_said(store, bucket, tmp_path):
    made = publish(store)
    artifacts.push(store, made.digest, f"s3://{bucket}/team/rarefy", "production")
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
    sizes = artifacts.Remote.sizes

    def pushed_meanwhile(there, folder):
        found = sizes(there, folder)
        monkeypatch.setattr(artifacts.Remote, "sizes", sizes)
        artifacts.push(store, made.digest, url, "production")
        monkeypatch.setattr(there.system, method, killed)
        return found

    def killed(*arguments, **_named):
        Path(arguments[at]).touch()
        os._exit(9)

    monkeypatch.setattr(artifacts.Remote, "sizes", pushed_meanwhile)
    process = FORK.Process(target=artifacts.push, args=(store, made.digest, url))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    monkeypatch.undo()
    there = Store(tmp_path / "remote")
    assert there.verify(made.digest) == []
    assert other.verify(artifacts.pull(other, url, "production").digest) == []
    (left,) = disk.temporaries(tmp_path / "remote")
    artifacts.push(store, publish(store, "second", "2" * 64).digest, url)
    assert left.exists()
    os.utime(left, (0, 0))
    unlink = Path.unlink

    def denied(path, *arguments, **options):
        if path == left:
            raise PermissionError("another user's, in a folder with the sticky bit")
        unlink(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", denied)
        artifacts.push(store, publish(store, "theirs", "4" * 64).digest, url)
    artifacts.push(store, publish(store, "third", "3" * 64).digest, url)
    assert not left.exists()
