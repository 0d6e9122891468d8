"""A remote store behind a URL: atomic pushes, verified pulls, clear errors."""

from __future__ import annotations

import json
import multiprocessing
import threading
from pathlib import Path

import fsspec
import pytest

from rarefy.pipeline.store.artifact import NewerError
from rarefy.pipeline.store.remote import artifacts, compare_and_swap
from rarefy.pipeline.store.store import Store
from rarefy.pipeline.store.tags import ANY, NoTagError
from rarefy.pipeline.terms.errors import EvidenceError, IntegrityError, ProviderError, RecipeError
from tests.pipeline.store.artifacts import damage, make_newer, overwrite, publish

FORK = multiprocessing.get_context("fork")


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
    assert artifacts.push(store, made.digest, url, "production") == made.manifest.size
    for number, reference in enumerate(("production", made.digest, made.digest[:8])):
        other = Store(tmp_path / f"other-{number}")
        found = artifacts.pull(other, url, reference)
        assert other.verify(made.digest) == []
        assert found.path("a.txt").read_text() == "hello"
        assert found.run_record() == {"seconds": 1.5}


def test_a_pull_replaces_a_copy_here_that_is_damaged_and_has_the_right_size(store, tmp_path):
    made = publish(store)
    url = f"file://{tmp_path}/remote"
    artifacts.push(store, made.digest, url, "production")
    damage(made.path("a.txt"))
    artifacts.pull(store, url, "production")
    assert store.verify(made.digest) == []


def test_a_remote_on_a_disk_is_a_store(store, tmp_path):
    made = publish(store)
    artifacts.push(store, made.digest, f"file://{tmp_path}/remote", "production")
    there = Store(tmp_path / "remote")
    assert there.tags() == {"production": made.digest}
    assert there.verify(made.digest) == []


def test_twice_costs_nothing(store, other, url, monkeypatch):
    made = publish(store)
    artifacts.push(store, made.digest, url, "production")
    artifacts.pull(other, url, "production")
    before = files(url)

    def never(*_arguments, **_named):
        raise AssertionError("sent or fetched again")

    for method in ("put_file", "get_file", "pipe_file"):
        monkeypatch.setattr(fsspec.url_to_fs(url)[0], method, never)
    assert artifacts.push(store, made.digest, url, "production") == 0
    assert artifacts.pull(other, url, "production").digest == made.digest
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
        artifacts.push(store, made.digest, url, "production")
    monkeypatch.undo()
    with pytest.raises(NoTagError):
        artifacts.pull(other, url, "production")
    with pytest.raises(RecipeError, match="there is no artifact"):
        artifacts.pull(other, url, made.digest)
    artifacts.push(store, made.digest, url, "production")
    assert other.verify(artifacts.pull(other, url, "production").digest) == []


@pytest.mark.parametrize("change", [b"jello", b"hell"], ids=["flipped", "cut"])
def test_bytes_that_changed_there_are_not_published_here(store, other, url, change):
    made = publish(store)
    artifacts.push(store, made.digest, url)
    put(url, f"artifacts/sha256/{made.digest}/a.txt", change)
    with pytest.raises(IntegrityError, match=r"a\.txt does not match its manifest"):
        artifacts.pull(other, url, made.digest)
    assert other.digests() == []
    assert list((other.root / "tmp").iterdir()) == []


def test_a_cut_file_is_mended_by_the_next_push(store, other, url):
    made = publish(store)
    artifacts.push(store, made.digest, url)
    put(url, f"artifacts/sha256/{made.digest}/a.txt", b"hel")
    assert artifacts.push(store, made.digest, url) == 5
    assert other.verify(artifacts.pull(other, url, made.digest).digest) == []


def test_a_file_of_the_right_size_but_other_bytes_is_mended_by_the_next_push(store, other, url):
    made = publish(store)
    artifacts.push(store, made.digest, url, "production")
    put(url, f"artifacts/sha256/{made.digest}/a.txt", b"jello")
    assert artifacts.push(store, made.digest, url, "production") == 5
    assert other.verify(artifacts.pull(other, url, "production").digest) == []


def test_a_damaged_manifest_is_mended_by_the_next_push(store, other, url):
    made = publish(store)
    artifacts.push(store, made.digest, url)
    path = f"artifacts/sha256/{made.digest}/manifest.json"
    put(url, path, files(url)[path].replace(b"checkpoint", b"checkpoimt"))
    assert artifacts.push(store, made.digest, url) == 0
    assert other.verify(artifacts.pull(other, url, made.digest).digest) == []


def test_a_tag_does_not_move_to_bytes_that_did_not_arrive(store, url, monkeypatch):
    one, two = publish(store, "one", "1" * 64), publish(store, "two", "2" * 64)
    artifacts.push(store, one.digest, url, "production")
    system = fsspec.url_to_fs(url)[0]
    real = system.put_file

    def flip(source, target, **named):
        real(source, target, **named)
        system.pipe_file(target, b"tow" if source.endswith("a.txt") else b"\x00\x01\x02")

    monkeypatch.setattr(system, "put_file", flip)
    with pytest.raises(IntegrityError, match=r"a\.txt did not arrive whole; push again"):
        artifacts.push(store, two.digest, url, "production")
    monkeypatch.undo()
    assert artifacts.find_tag(url, "production").digest == one.digest


def test_what_s3_vouches_for_is_not_read_back(store, shared, monkeypatch):
    made = publish(store)
    system = fsspec.url_to_fs(shared)[0]
    monkeypatch.setattr(system, "open", lambda *_a, **_n: pytest.fail("a file was read back"))
    for _ in range(2):
        artifacts.push(store, made.digest, shared, "production")
    assert artifacts.find_tag(shared, "production").digest == made.digest


def push(store, made, url, tag="production", **facts):
    """Push as ``rarefy promote`` does: the tag moves only from where it is expected."""
    artifacts.push(store, made.digest, url)
    artifacts.move(url, tag, made.digest, **facts)


def interrupted(monkeypatch, *others):
    """Let another process act just before a tag is written."""
    todo, real = list(others), compare_and_swap.replace

    def replace(*arguments):
        if todo:
            todo.pop(0)()
        real(*arguments)

    monkeypatch.setattr(compare_and_swap, "replace", replace)


def test_of_two_who_move_a_tag_there_at_once_one_is_refused(store, shared, monkeypatch):
    one, two, three = (publish(store, str(n), f"{n}" * 64) for n in range(3))
    artifacts.push(store, one.digest, shared, "production")

    def other():
        push(store, two, shared, expect=one.digest)

    interrupted(monkeypatch, other)
    with pytest.raises(EvidenceError, match="was moved in the meantime"):
        push(store, three, shared, expect=one.digest)
    assert linear(shared) == [one.digest, two.digest]


def test_of_two_who_found_a_tag_there_at_once_one_is_refused(store, shared, monkeypatch):
    one, two = publish(store, "one", "1" * 64), publish(store, "two", "2" * 64)
    interrupted(monkeypatch, lambda: push(store, two, shared, "new", expect=None))
    with pytest.raises(EvidenceError, match="it pointed at nothing when this was decided"):
        push(store, one, shared, "new", expect=None)
    assert linear(shared, "new") == [two.digest]


def test_who_expects_nothing_moves_a_tag_on_top_of_another_s_move(store, shared, monkeypatch):
    one, two, three = (publish(store, str(n), f"{n}" * 64) for n in range(3))
    artifacts.push(store, one.digest, shared, "production")
    interrupted(monkeypatch, lambda: artifacts.push(store, two.digest, shared, "production"))
    artifacts.push(store, three.digest, shared, "production")
    assert linear(shared) == [one.digest, two.digest, three.digest]


def test_a_rollback_does_not_undo_a_move_that_it_did_not_see(store, shared, monkeypatch):
    one, two, three = (publish(store, str(n), f"{n}" * 64) for n in range(3))
    for made in (one, two):
        artifacts.push(store, made.digest, shared, "production")
    interrupted(monkeypatch, lambda: artifacts.push(store, three.digest, shared, "production"))
    with pytest.raises(EvidenceError, match="was moved in the meantime"):
        artifacts.move(shared, "production", one.digest, expect=two.digest, why="rollback")
    assert linear(shared)[-1] == three.digest


def linear(url, tag="production"):
    """Return where a tag pointed, after checking that each move begins where the last ended."""
    moves = artifacts.find_tag(url, tag).moves
    assert [move.previous for move in moves] == [None, *(move.digest for move in moves)][:-1]
    return [move.digest for move in moves]


def test_pushes_to_a_disk_take_turns_with_its_own_store(store, other, monkeypatch):
    made = [publish(store, str(n), f"{n}" * 64) for n in range(6)]
    url = other.root.as_uri()
    for each in made[3:]:
        artifacts.push(store, each.digest, url)

    def push(each):
        artifacts.push(store, each.digest, url, "production")

    work = [
        *((push, (each,)) for each in made[:3]),
        *((other.tag, ("production", each.digest)) for each in made[3:]),
    ]
    processes = [FORK.Process(target=target, args=arguments) for target, arguments in work]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 6
    assert sorted(linear(url)) == sorted(each.digest for each in made)


def test_a_tag_on_a_disk_is_not_moved_by_its_own_store_meanwhile(store, other, monkeypatch):
    one, two = publish(store, "one", "1" * 64), publish(other, "two", "2" * 64)
    mover = threading.Thread(target=other.tag, args=("production", two.digest))

    def look_on():
        mover.start()
        mover.join(0.5)
        assert mover.is_alive()

    interrupted(monkeypatch, look_on)
    artifacts.push(store, one.digest, other.root.as_uri(), "production")
    mover.join(20)
    assert linear(other.root.as_uri()) == [one.digest, two.digest]


def test_an_answer_that_was_lost_counts_as_what_really_happened(store, shared, monkeypatch):
    made = publish(store)
    system = fsspec.url_to_fs(shared)[0]
    real = system.pipe_file

    def lose_the_answer(path, data, **named):
        real(path, data, **named)
        if "/tags/" in path:
            raise ConnectionError("the line is dead")

    monkeypatch.setattr(system, "pipe_file", lose_the_answer)
    artifacts.push(store, made.digest, shared, "production")
    assert linear(shared) == [made.digest]

    def lose_everything(path, data, **named):
        monkeypatch.setattr(system, "info", dead)
        dead()

    def dead(*_arguments, **_named):
        raise ConnectionError("the line is dead")

    monkeypatch.setattr(system, "pipe_file", lose_everything)
    other = publish(store, "other", "2" * 64)
    monkeypatch.setattr(artifacts.Remote, "check_bytes", lambda *_arguments: None)
    there = artifacts.Remote.open(shared)
    with pytest.raises(ProviderError, match="may have moved or not; look there and try again"):
        there.move_tag("production", other.digest, ANY, "tag")


def test_an_artifact_of_a_newer_version_there_says_so(store, other, url):
    made = publish(store)
    artifacts.push(store, made.digest, url)
    make_newer(made.directory)
    path = f"artifacts/sha256/{made.digest}/manifest.json"
    put(url, path, (made.directory / "manifest.json").read_bytes())
    with pytest.raises(
        NewerError, match=r"made by a newer version of rarefy \(manifest schema 2\)"
    ):
        artifacts.pull(other, url, made.digest)


def test_a_copy_that_was_cut_here_is_brought_again(store, other, url):
    made = publish(store)
    artifacts.push(store, made.digest, url)
    overwrite(artifacts.pull(other, url, made.digest).directory / "a.txt", "x")
    assert other.verify(artifacts.pull(other, url, made.digest).digest) == []


def test_a_manifest_that_names_other_files_is_refused(store, other, url):
    made = publish(store)
    artifacts.push(store, made.digest, url)
    path = f"artifacts/sha256/{made.digest}/manifest.json"
    values = json.loads(files(url)[path])
    for changed in ({"kind": "bundle"}, {"files": [{"path": "../../x", "size": 1}]}):
        put(url, path, json.dumps(values | changed).encode())
        with pytest.raises(IntegrityError, match=r"the manifest of artifact .* is damaged"):
            artifacts.pull(other, url, made.digest)


def test_a_tag_there_cannot_lead_out_of_the_folder(other, url, store):
    artifacts.push(store, publish(store).digest, url, "good")
    put(url, "tags/evil.json", json.dumps({"digest": "../../../etc", "time": 0}).encode())
    with pytest.raises(IntegrityError, match=r"tags/evil\.json: the file is damaged"):
        artifacts.pull(other, url, "evil")
    for name in ("../tags/evil", "a/b", ""):
        with pytest.raises(RecipeError, match="is not a valid name"):
            artifacts.pull(other, url, name)


def test_damage_here_is_not_sent(store, url):
    made = publish(store)
    damage(made.directory / "a.txt")
    with pytest.raises(IntegrityError, match="is damaged"):
        artifacts.push(store, made.digest, url)
    assert files(url) == {}


def test_a_tag_there_has_a_history_and_is_swapped(store, url):
    one, two = publish(store, "one", "1" * 64), publish(store, "two", "2" * 64)
    push(store, one, url, expect=None, why="promote", run="r")
    with pytest.raises(
        EvidenceError, match="production' was moved in the meantime: it pointed at nothing"
    ):
        push(store, two, url, expect=None)
    push(store, two, url, expect=one.digest)
    tag = artifacts.find_tag(url, "production")
    assert [(move.digest, move.why) for move in tag.moves] == [
        (one.digest, "promote"),
        (two.digest, "tag"),
    ]
    assert tag.before == one.digest


def test_a_tag_or_artifact_that_is_not_there(store, other, url):
    made = publish(store)
    with pytest.raises(NoTagError, match=r"no tag 'production' in .* \(tags: none\)"):
        artifacts.pull(other, url, "production")
    artifacts.push(store, made.digest, url, "staging")
    with pytest.raises(NoTagError, match=r"no tag 'production' in .* \(tags: staging\)"):
        artifacts.pull(other, url, "production")
    missing = "0" * 64
    assert made.digest != missing
    with pytest.raises(RecipeError, match="there is no artifact 000000000000"):
        artifacts.pull(other, url, missing)
    with pytest.raises(RecipeError, match="no artifact matches this digest prefix"):
        artifacts.pull(other, url, "000000")


@pytest.mark.parametrize("reference", ["production", "#production", "file:///x#", "#"])
def test_an_address_is_a_url_and_a_name(reference):
    with pytest.raises(RecipeError, match="expected URL#TAG"):
        artifacts.split(reference)
    assert artifacts.split("s3://bucket/a#b/c#d") == ("s3://bucket/a#b/c", "d")


def test_the_path_of_a_store_may_hold_the_mark_of_a_tag():
    artifacts.check_url("file:///work/c#/store")


def test_a_tag_s_name_is_checked_before_anything_is_sent(store, url):
    made = publish(store)
    with pytest.raises(RecipeError, match="is not a valid name"):
        artifacts.push(store, made.digest, url, "Production")
    assert files(url) == {}
