"""A remote store behind a URL: atomic pushes, verified pulls, clear errors."""

from __future__ import annotations

import json
import multiprocessing
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from pipeline.store import remote, swap
from pipeline.store.artifact import NewerError
from pipeline.store.store import Store
from pipeline.store.tags import ANY, NoTagError
from pipeline.terms.errors import EvidenceError, IntegrityError, ProviderError, RecipeError
from tests.pipeline.store.artifacts import damage, make_newer, overwrite, publish

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "here")


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return Store(tmp_path / "there")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bucket of a local S3 server; credentials come from the environment."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="models")
        yield "models"
    server.stop()


@pytest.fixture(params=["file", "memory", "s3"])
def url(request, tmp_path: Path) -> str:
    if request.param == "s3":
        return f"s3://{request.getfixturevalue('bucket')}/{uuid.uuid4().hex}"
    if request.param == "file":
        return f"file://{tmp_path}/remote"
    return f"memory://{uuid.uuid4().hex}/rarefy"


def files(url: str) -> dict[str, bytes]:
    system, root = fsspec.url_to_fs(url)
    return {path.removeprefix(f"{root}/"): system.cat_file(path) for path in system.find(root)}


def put(url: str, path: str, data: bytes) -> None:
    system, root = fsspec.url_to_fs(url)
    if url.startswith("file:") and Path(f"{root}/{path}").exists():
        Path(f"{root}/{path}").chmod(0o644)
    system.pipe_file(f"{root}/{path}", data)


def test_what_is_pushed_is_pulled_by_tag_digest_and_beginning(store, tmp_path, url):
    made = publish(store)
    assert remote.push(store, made.digest, url, "production") == made.manifest.size
    for number, reference in enumerate(("production", made.digest, made.digest[:8])):
        other = Store(tmp_path / f"other-{number}")
        found = remote.pull(other, url, reference)
        assert other.verify(made.digest) == []
        assert found.path("a.txt").read_text() == "hello"
        assert found.run_record() == {"seconds": 1.5}


def test_a_remote_on_a_disk_is_a_store(store, tmp_path):
    made = publish(store)
    remote.push(store, made.digest, f"file://{tmp_path}/remote", "production")
    there = Store(tmp_path / "remote")
    assert there.tags() == {"production": made.digest}
    assert there.verify(made.digest) == []


def test_twice_costs_nothing(store, other, url, monkeypatch):
    made = publish(store)
    remote.push(store, made.digest, url, "production")
    remote.pull(other, url, "production")
    before = files(url)

    def never(*_arguments, **_named):
        raise AssertionError("sent or fetched again")

    for method in ("put_file", "get_file", "pipe_file"):
        monkeypatch.setattr(fsspec.url_to_fs(url)[0], method, never)
    assert remote.push(store, made.digest, url, "production") == 0
    assert remote.pull(other, url, "production").digest == made.digest
    monkeypatch.undo()
    assert files(url) == before


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_push_that_breaks_off_is_seen_by_nobody_and_can_be_done_again(
    store, other, url, at, monkeypatch
):
    made, left = publish(store), iter(range(10))
    system = fsspec.url_to_fs(url)[0]
    real = {name: getattr(system, name) for name in ("put_file", "pipe_file")}

    def cut(name):
        def call(*arguments, **named):
            if next(left) + 1 == at:
                raise ConnectionError("the line is dead")
            return real[name](*arguments, **named)

        return call

    for name in real:
        monkeypatch.setattr(system, name, cut(name))
    with pytest.raises(ProviderError, match="ConnectionError: the line is dead"):
        remote.push(store, made.digest, url, "production")
    monkeypatch.undo()
    with pytest.raises(NoTagError):
        remote.pull(other, url, "production")
    with pytest.raises(RecipeError, match="there is no artifact"):
        remote.pull(other, url, made.digest)
    remote.push(store, made.digest, url, "production")
    assert other.verify(remote.pull(other, url, "production").digest) == []


@pytest.mark.parametrize("change", [b"jello", b"hell"], ids=["flipped", "cut"])
def test_bytes_that_changed_there_are_not_published_here(store, other, url, change):
    made = publish(store)
    remote.push(store, made.digest, url)
    put(url, f"artifacts/sha256/{made.digest}/a.txt", change)
    with pytest.raises(IntegrityError, match=r"a\.txt does not match its manifest"):
        remote.pull(other, url, made.digest)
    assert other.digests() == []
    assert list((other.root / "tmp").iterdir()) == []


def test_a_cut_file_is_mended_by_the_next_push(store, other, url):
    made = publish(store)
    remote.push(store, made.digest, url)
    put(url, f"artifacts/sha256/{made.digest}/a.txt", b"hel")
    assert remote.push(store, made.digest, url) == 5
    assert other.verify(remote.pull(other, url, made.digest).digest) == []


def test_a_file_of_the_right_size_but_other_bytes_is_mended_by_the_next_push(store, other, url):
    made = publish(store)
    remote.push(store, made.digest, url, "production")
    put(url, f"artifacts/sha256/{made.digest}/a.txt", b"jello")
    assert remote.push(store, made.digest, url, "production") == 5
    assert other.verify(remote.pull(other, url, "production").digest) == []


def test_a_damaged_manifest_is_mended_by_the_next_push(store, other, url):
    made = publish(store)
    remote.push(store, made.digest, url)
    path = f"artifacts/sha256/{made.digest}/manifest.json"
    put(url, path, files(url)[path].replace(b"checkpoint", b"checkpoimt"))
    assert remote.push(store, made.digest, url) == 0
    assert other.verify(remote.pull(other, url, made.digest).digest) == []


def test_a_tag_does_not_move_to_bytes_that_did_not_arrive(store, url, monkeypatch):
    one, two = publish(store, "one", "1" * 64), publish(store, "two", "2" * 64)
    remote.push(store, one.digest, url, "production")
    system = fsspec.url_to_fs(url)[0]
    real = system.put_file

    def flip(source, target, **named):
        real(source, target, **named)
        system.pipe_file(target, b"tow" if source.endswith("a.txt") else b"\x00\x01\x02")

    monkeypatch.setattr(system, "put_file", flip)
    with pytest.raises(IntegrityError, match=r"a\.txt did not arrive whole; push again"):
        remote.push(store, two.digest, url, "production")
    monkeypatch.undo()
    assert remote.find_tag(url, "production").digest == one.digest


def test_what_s3_vouches_for_is_not_read_back(store, shared, monkeypatch):
    made = publish(store)
    system = fsspec.url_to_fs(shared)[0]
    monkeypatch.setattr(system, "open", lambda *_a, **_n: pytest.fail("a file was read back"))
    for _ in range(2):
        remote.push(store, made.digest, shared, "production")
    assert remote.find_tag(shared, "production").digest == made.digest


def interrupted(monkeypatch, *others):
    """Let another process act just before a tag is written."""
    todo, real = list(others), swap.replace

    def replace(*arguments):
        if todo:
            todo.pop(0)()
        real(*arguments)

    monkeypatch.setattr(swap, "replace", replace)


@pytest.fixture
def shared(bucket: str) -> str:
    """A remote that has conditional writes."""
    return f"s3://{bucket}/{uuid.uuid4().hex}"


def test_of_two_who_move_a_tag_there_at_once_one_is_refused(store, shared, monkeypatch):
    one, two, three = (publish(store, str(n), f"{n}" * 64) for n in range(3))
    remote.push(store, one.digest, shared, "production")

    def other():
        remote.push(store, two.digest, shared, "production", expect=one.digest)

    interrupted(monkeypatch, other)
    with pytest.raises(EvidenceError, match="was moved in the meantime"):
        remote.push(store, three.digest, shared, "production", expect=one.digest)
    assert linear(shared) == [one.digest, two.digest]


def test_of_two_who_found_a_tag_there_at_once_one_is_refused(store, shared, monkeypatch):
    one, two = publish(store, "one", "1" * 64), publish(store, "two", "2" * 64)
    interrupted(monkeypatch, lambda: remote.push(store, two.digest, shared, "new", expect=None))
    with pytest.raises(EvidenceError, match="it pointed at nothing when this was decided"):
        remote.push(store, one.digest, shared, "new", expect=None)
    assert linear(shared, "new") == [two.digest]


def test_who_expects_nothing_moves_a_tag_on_top_of_another_s_move(store, shared, monkeypatch):
    one, two, three = (publish(store, str(n), f"{n}" * 64) for n in range(3))
    remote.push(store, one.digest, shared, "production")
    interrupted(monkeypatch, lambda: remote.push(store, two.digest, shared, "production"))
    remote.push(store, three.digest, shared, "production")
    assert linear(shared) == [one.digest, two.digest, three.digest]


def test_a_rollback_does_not_undo_a_move_that_it_did_not_see(store, shared, monkeypatch):
    one, two, three = (publish(store, str(n), f"{n}" * 64) for n in range(3))
    for made in (one, two):
        remote.push(store, made.digest, shared, "production")
    interrupted(monkeypatch, lambda: remote.push(store, three.digest, shared, "production"))
    with pytest.raises(EvidenceError, match="was moved in the meantime"):
        remote.move(shared, "production", one.digest, expect=two.digest, why="rollback")
    assert linear(shared)[-1] == three.digest


def linear(url, tag="production"):
    """Return where a tag pointed, after checking that each move begins where the last ended."""
    moves = remote.find_tag(url, tag).moves
    assert [move.previous for move in moves] == [None, *(move.digest for move in moves)][:-1]
    return [move.digest for move in moves]


def test_pushes_to_a_disk_take_turns_with_its_own_store(store, other, monkeypatch):
    made = [publish(store, str(n), f"{n}" * 64) for n in range(6)]
    url = other.root.as_uri()
    for each in made[3:]:
        remote.push(store, each.digest, url)

    def push(each):
        remote.push(store, each.digest, url, "production")

    work = [
        *((push, (each,)) for each in made[:3]),
        *((other.tag, ("production", each.digest)) for each in made[3:]),
    ]
    processes = [FORK.Process(target=target, args=arguments) for target, arguments in work]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert sorted(linear(url)) == sorted(each.digest for each in made)


def test_an_answer_that_was_lost_counts_as_what_really_happened(store, shared, monkeypatch):
    made = publish(store)
    system = fsspec.url_to_fs(shared)[0]
    real = system.pipe_file

    def lose_the_answer(path, data, **named):
        real(path, data, **named)
        if "/tags/" in path:
            raise ConnectionError("the line is dead")

    monkeypatch.setattr(system, "pipe_file", lose_the_answer)
    remote.push(store, made.digest, shared, "production")
    assert linear(shared) == [made.digest]

    def lose_everything(path, data, **named):
        monkeypatch.setattr(system, "info", dead)
        dead()

    def dead(*_arguments, **_named):
        raise ConnectionError("the line is dead")

    monkeypatch.setattr(system, "pipe_file", lose_everything)
    other = publish(store, "other", "2" * 64)
    monkeypatch.setattr(remote.Remote, "check_bytes", lambda *_arguments: None)
    there = remote.Remote.open(shared)
    with pytest.raises(ProviderError, match="may have moved or not; look there and try again"):
        there.move_tag("production", other.digest, ANY, "tag")


def test_an_artifact_of_a_newer_version_there_says_so(store, other, url):
    made = publish(store)
    remote.push(store, made.digest, url)
    make_newer(made.directory)
    path = f"artifacts/sha256/{made.digest}/manifest.json"
    put(url, path, (made.directory / "manifest.json").read_bytes())
    with pytest.raises(
        NewerError, match=r"made by a newer version of rarefy \(manifest schema 2\)"
    ):
        remote.pull(other, url, made.digest)


def test_a_copy_that_was_cut_here_is_brought_again(store, other, url):
    made = publish(store)
    remote.push(store, made.digest, url)
    overwrite(remote.pull(other, url, made.digest).directory / "a.txt", "x")
    assert other.verify(remote.pull(other, url, made.digest).digest) == []


def test_a_manifest_that_names_other_files_is_refused(store, other, url):
    made = publish(store)
    remote.push(store, made.digest, url)
    path = f"artifacts/sha256/{made.digest}/manifest.json"
    values = json.loads(files(url)[path])
    for changed in ({"kind": "bundle"}, {"files": [{"path": "../../x", "size": 1}]}):
        put(url, path, json.dumps(values | changed).encode())
        with pytest.raises(IntegrityError, match=r"the manifest of artifact .* is damaged"):
            remote.pull(other, url, made.digest)


def test_a_tag_there_cannot_lead_out_of_the_folder(other, url, store):
    remote.push(store, publish(store).digest, url, "good")
    put(url, "tags/evil.json", json.dumps({"digest": "../../../etc", "time": 0}).encode())
    with pytest.raises(IntegrityError, match=r"tags/evil\.json: the file is damaged"):
        remote.pull(other, url, "evil")
    for name in ("../tags/evil", "a/b", ""):
        with pytest.raises(RecipeError, match="is not a valid name"):
            remote.pull(other, url, name)


def test_damage_here_is_not_sent(store, url):
    made = publish(store)
    damage(made.directory / "a.txt")
    with pytest.raises(IntegrityError, match="is damaged"):
        remote.push(store, made.digest, url)
    assert files(url) == {}


def test_a_tag_there_has_a_history_and_is_swapped(store, url):
    one, two = publish(store, "one", "1" * 64), publish(store, "two", "2" * 64)
    remote.push(store, one.digest, url, "production", expect=None, why="promote", run="r")
    with pytest.raises(
        EvidenceError, match="production' was moved in the meantime: it pointed at nothing"
    ):
        remote.push(store, two.digest, url, "production", expect=None)
    remote.push(store, two.digest, url, "production", expect=one.digest)
    tag = remote.find_tag(url, "production")
    assert [(move.digest, move.why) for move in tag.moves] == [
        (one.digest, "promote"),
        (two.digest, "tag"),
    ]
    assert tag.before == one.digest


def test_a_tag_or_artifact_that_is_not_there(store, other, url):
    made = publish(store)
    with pytest.raises(NoTagError, match=r"no tag 'production' in .* \(tags: none\)"):
        remote.pull(other, url, "production")
    remote.push(store, made.digest, url, "staging")
    with pytest.raises(NoTagError, match=r"no tag 'production' in .* \(tags: staging\)"):
        remote.pull(other, url, "production")
    missing = "0" * 64
    assert made.digest != missing
    with pytest.raises(RecipeError, match="there is no artifact 000000000000"):
        remote.pull(other, url, missing)
    with pytest.raises(RecipeError, match="no artifact matches this digest prefix"):
        remote.pull(other, url, "000000")


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
    monkeypatch.setitem(remote.known_implementations, "nosuch", known)
    with pytest.raises(
        ProviderError, match="'nosuch' needs another package; run: pip install nosuchfs"
    ):
        remote.pull(store, "nosuch://bucket/x", "production")


def test_the_web_is_read_only(store):
    class Web:
        protocol = ("http", "https")

    with pytest.raises(RecipeError, match="this remote is read-only"):
        remote.Remote("https://models.example/x", Web(), "x").check_writable()


@pytest.mark.parametrize("reference", ["production", "#production", "file:///x#", "#"])
def test_an_address_is_a_url_and_a_name(reference):
    with pytest.raises(RecipeError, match="expected URL#TAG"):
        remote.split(reference)
    assert remote.split("s3://bucket/a#b#c") == ("s3://bucket/a#b", "c")


def test_a_tag_s_name_is_checked_before_anything_is_sent(store, url):
    made = publish(store)
    with pytest.raises(RecipeError, match="is not a valid name"):
        remote.push(store, made.digest, url, "Production")
    assert files(url) == {}


def test_a_place_that_may_be_mistyped_is_said(store, bucket, tmp_path):
    made = publish(store)
    remote.push(store, made.digest, f"s3://{bucket}/team/rarefy", "production")
    for url in (f"s3://{bucket}/team/rarefy", f"s3://{bucket}/team/another", f"file://{tmp_path}"):
        remote.Remote.open(url).check_exists()
    for url, words in {
        f"s3://{bucket}/team/rarfey": "nothing is there; did you mean 'rarefy'",
        "s3://modles/team/rarefy": "no such bucket or folder: modles",
        f"file://{tmp_path}/nowhere": "no such folder; correct the URL, or create the folder",
    }.items():
        with pytest.raises(RecipeError, match=words):
            remote.Remote.open(url).check_exists()
