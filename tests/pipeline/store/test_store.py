"""The store: artifacts are complete or absent, and damage is detected."""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import shutil
import tempfile
import threading
import time

import pytest

from rarefy.pipeline.run import folder
from rarefy.pipeline.run.outcome import Outcome
from rarefy.pipeline.store import disk
from rarefy.pipeline.store.artifact import (
    MANIFEST,
    RUN,
    Kind,
    Manifest,
    NewerError,
    StageRecord,
    list_files,
)
from rarefy.pipeline.store.store import Store
from rarefy.pipeline.terms.errors import EvidenceError, IntegrityError, RecipeError
from tests.pipeline.report.factory import report_data
from tests.pipeline.store.artifacts import damage, make_newer, overwrite, publish

FORK = multiprocessing.get_context("fork")


def test_what_is_published_opens_by_digest_by_its_beginning_and_by_fingerprint(store):
    made = publish(store)
    for reference in (made.digest, made.digest[:8]):
        assert store.open(reference).digest == made.digest
    found = store.lookup("f" * 64)
    assert found.digest == made.digest
    assert found.path("a.txt").read_text() == "hello"
    assert found.run_record() == {"seconds": 1.5}
    assert store.verify(made.digest) == []
    assert store.digests() == [made.digest]
    assert list((store.root / "tmp").iterdir()) == []


def test_the_same_work_published_twice_is_one_artifact(store):
    first, second = publish(store), publish(store)
    assert first == second
    assert len(store.digests()) == 1


def test_a_draft_that_fails_leaves_nothing(store):
    def fail():
        with store.draft() as draft:
            (draft / "half").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list((store.root / "tmp").iterdir()) == []
    assert list((store.root / "locks").iterdir()) == []
    assert store.digests() == []


def test_a_reference_that_means_nothing_or_too_much(store, monkeypatch):
    made = publish(store)
    for unknown in ("nosuch", "abc", "0" * 64, "../../etc", ""):
        with pytest.raises(RecipeError, match="no such artifact or tag"):
            store.open(unknown)
    twins = [made.digest[:8] + "0" * 56, made.digest[:8] + "1" * 56]
    monkeypatch.setattr(store, "digests", lambda: twins)
    with pytest.raises(RecipeError, match="2 artifacts match this prefix; give more digits"):
        store.resolve(made.digest[:8])


def test_what_is_deleted_while_it_is_read_is_missing_and_not_damaged(store, monkeypatch):
    made, real = publish(store), Manifest.parse

    def parse(data, name):
        shutil.rmtree(made.directory)
        return real(data, name)

    monkeypatch.setattr(Manifest, "parse", parse)
    with pytest.raises(RecipeError, match="no such artifact"):
        store.open(made.digest)
    monkeypatch.undo()
    assert publish(store) == made
    monkeypatch.setattr(Manifest, "parse", parse)
    assert store.lookup("f" * 64) is None


def test_publishing_over_a_damaged_twin_mends_it(store):
    made = publish(store)
    damage(made.directory / "a.txt")
    (store.root / "fingerprints" / f"{'f' * 64}.json").unlink()
    publish(store)
    assert store.verify(made.digest) == []


@pytest.mark.parametrize(
    "name", ["../escape", "a/b", "/etc/x", ".hidden", "", "a" * 65, "Big", "new\n", "a\x00b", "-x"]
)
def test_a_tag_s_name_cannot_leave_the_store(store, name):
    made = publish(store)
    with pytest.raises(RecipeError, match="is not a valid name"):
        store.tag(name, made.digest)
    with pytest.raises(RecipeError):
        store.untag(name)
    assert list((store.root / "tags").iterdir()) == []


def test_tags_point_move_and_go(store):
    one, two = publish(store, "one", "1" * 64), publish(store, "two", "2" * 64)
    store.tag("best", one.digest)
    store.tag("best", two.digest)
    assert store.open("best").digest == two.digest
    assert store.tags() == {"best": two.digest}
    store.untag("best")
    with pytest.raises(RecipeError, match="there is no tag 'best'"):
        store.untag("best")
    with pytest.raises(RecipeError, match="looks like a digest prefix"):
        store.tag("abcdef", one.digest)


def test_a_tag_moves_only_from_where_it_was_expected(store):
    one, two = publish(store, "one", "1" * 64), publish(store, "two", "2" * 64)
    store.tag("best", one.digest, expect=None)
    with pytest.raises(
        EvidenceError, match=f"it pointed at nothing .* and points at {one.short} now"
    ):
        store.tag("best", two.digest, expect=None)
    store.tag("best", two.digest, expect=one.digest)
    with pytest.raises(EvidenceError, match=f"it pointed at {one.short} when this was decided"):
        store.tag("best", one.digest, expect=one.digest)
    assert store.tags() == {"best": two.digest}


def test_a_tag_needs_an_artifact_that_is_there_and_whole(store):
    made = publish(store)
    with pytest.raises(RecipeError, match="no such artifact or tag"):
        store.tag("best", "0" * 64)
    overwrite(made.directory / "a.txt", "hell")
    with pytest.raises(IntegrityError, match=r"a\.txt is missing or truncated"):
        store.tag("best", made.digest)
    assert store.tags() == {}


def test_a_move_is_taken_back_unless_the_tag_moved_on(store):
    one, two = publish(store, "one", "1" * 64), publish(store, "two", "2" * 64)
    first = store.tag("best", one.digest)
    assert store.restore("best", first)
    assert store.find_tag("best") is None
    first = store.tag("best", one.digest)
    second = store.tag("best", two.digest)
    assert not store.restore("best", first)
    assert store.restore("best", second)
    assert store.find_tag("best") == first


def test_of_two_who_move_a_tag_at_once_one_is_refused(store):
    digests = [publish(store, str(n), f"{n}" * 64).digest for n in range(4)]
    store.tag("best", digests[0])
    said, start = [], threading.Barrier(3)

    def move(digest):
        start.wait()
        try:
            store.tag("best", digest, expect=digests[0])
            said.append("moved")
        except EvidenceError:
            said.append("refused")

    threads = [threading.Thread(target=move, args=(digest,)) for digest in digests[1:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == ["moved", "refused", "refused"]
    assert len(store.find_tag("best").moves) == 2


def test_a_tag_that_is_there_already_does_not_move(store):
    made = publish(store)
    store.tag("best", made.digest)
    store.tag("best", made.digest, why="promote")
    assert [move.why for move in store.find_tag("best").moves] == ["tag"]


def test_another_store_s_artifact_is_taken_over_but_not_as_work_done_here(store, tmp_path):
    made = publish(store)
    other = Store(tmp_path / "other")
    for damaged in (False, True):
        with other.draft() as draft:
            shutil.copytree(
                made.directory, draft, dirs_exist_ok=True, copy_function=shutil.copyfile
            )
            if damaged:
                damage(draft / "a.txt")
                with pytest.raises(IntegrityError, match=r"a\.txt does not match its manifest"):
                    other.adopt(draft, made.manifest, {})
            else:
                assert other.adopt(draft, made.manifest, {"host": "there"}) == other.open(
                    made.digest
                )
    assert other.verify(made.digest) == []
    assert other.lookup("f" * 64) is None


def test_a_copy_that_was_stopped_while_it_was_sealed_is_taken_over_later(store, other, tmp_path):
    """Its files are read-only by then: root writes through that, others can only replace them."""
    made, folder = publish(store), other.work("pull")
    shutil.copytree(made.directory, folder, dirs_exist_ok=True)
    before = [tmp_path / name for name in (MANIFEST, RUN)]
    for path in before:
        os.link(folder / path.name, path)
    adopted = other.adopt(folder, made.manifest, {})
    assert [path.samefile(adopted.directory / path.name) for path in before] == [False, False]
    assert other.verify(made.digest) == []


def test_damaged_bookkeeping_is_named(store):
    made = publish(store)
    store.tag("best", made.digest)
    for path, use in {
        "tags/best.json": lambda: store.open("best"),
        f"fingerprints/{'f' * 64}.json": lambda: store.lookup("f" * 64),
    }.items():
        (store.root / path).write_text("{")
        with pytest.raises(IntegrityError, match=r"the file is damaged.*; delete it"):
            use()
    (store.root / "notes" / "n.json").write_text("{")
    assert store.note("n") is None


def test_a_store_of_a_newer_rarefy_is_refused(store):
    (store.root / "store.json").write_text('{"schema": 2}')
    with pytest.raises(
        IntegrityError, match="schema 2, but this version of rarefy supports only 1; upgrade"
    ):
        Store(store.root)


def test_an_artifact_of_a_newer_rarefy_is_neither_read_nor_called_damaged(store):
    made = publish(store)
    make_newer(made.directory)
    says = (
        rf"artifact {made.short}: made by a newer version of rarefy \(manifest schema 2\); upgrade"
    )
    for use in (
        lambda: store.open(made.digest),
        lambda: store.verify(made.digest),
        lambda: store.lookup("f" * 64),
        lambda: publish(store),
    ):
        with pytest.raises(NewerError, match=says) as caught:
            use()
        assert caught.value.exit_code == 6
    assert made.directory.is_dir()


def test_all_of_an_artifact_is_on_the_disk_before_it_is_visible(store, monkeypatch):
    synced, before, after = set(), set(), set()
    fsync, rename = os.fsync, pathlib.Path.rename

    def syncing(descriptor):
        (after if before else synced).add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def renaming(path, target):
        before.update(synced)
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(pathlib.Path, "rename", renaming)
    made = publish(store)
    parts = (made.directory, *made.directory.rglob("*"))
    assert [part.name for part in parts if part.stat().st_ino not in before] == []
    assert made.directory.parent.stat().st_ino in after


def test_published_files_are_read_only_and_a_copy_of_a_bundle_is_not(store, tmp_path):
    made = publish(store)
    files = [path for path in made.directory.rglob("*") if path.is_file()]
    assert len(files) == 4
    assert not any(path.stat().st_mode & 0o222 for path in files)
    folder.write(Outcome(report_data(), made), tmp_path)
    copies = [path for path in (tmp_path / "bundle").rglob("*") if path.is_file()]
    assert len(copies) == 4
    assert all(path.stat().st_mode & 0o200 for path in copies)


def test_whoever_may_read_the_store_may_read_weights_that_were_written_for_one_user(store):
    with store.draft() as draft:
        (draft / "model.safetensors").touch(mode=0o600)  # as safetensors creates it
        stage = StageRecord(name="s", version=1, parameters={}, fingerprint="f" * 64)
        manifest = Manifest(kind=Kind.CHECKPOINT, files=list_files(draft), stage=stage)
        made = store.publish(draft, manifest, {})
    modes = {path.name: path.stat().st_mode & 0o777 for path in made.directory.iterdir()}
    assert modes["model.safetensors"] == modes[MANIFEST]
    assert modes[MANIFEST] & 0o400


def as_another_user(work):
    """Run ``work`` as a user who owns nothing; return what it raised."""
    found = FORK.Queue()

    def other():
        if os.geteuid() == 0:
            os.setuid(65534)
        try:
            work()
            found.put(None)
        except BaseException as error:  # its type is the answer
            found.put((type(error).__name__, str(error)))

    process = FORK.Process(target=other)
    process.start()
    said = found.get(timeout=20)
    process.join()
    return said


def test_another_user_s_store_is_refused_in_a_sentence(store):
    made = publish(store)
    for path in (store.root, *store.root.parents):
        if pathlib.Path(tempfile.gettempdir()) in path.parents:  # pytest's folders are private
            path.chmod(path.stat().st_mode | 0o055)
    assert as_another_user(lambda: store.open(made.digest)) is None
    if os.geteuid() == 0:
        kind, said = as_another_user(lambda: store.tag("best", made.digest))
        assert kind == "ProviderError"
        assert "cannot lock this file: Permission denied; another user may own it" in said
    (made.directory / MANIFEST).chmod(0)
    (made.directory / "a.txt").chmod(0)
    kind, said = as_another_user(lambda: store.verify(made.digest))
    assert kind == "ProviderError"
    assert "manifest.json: cannot read this file: Permission denied" in said


def test_removing_a_tag_reaches_the_disk(store, monkeypatch):
    store.tag("best", publish(store).digest)
    synced = []
    monkeypatch.setattr(disk, "sync", synced.append)
    store.untag("best")
    assert synced == [store.root / "tags"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "1"}'])
def test_a_damaged_marker_is_named(store, text):
    (store.root / "store.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"store\.json: the file is damaged"):
        Store(store.root)


def test_a_copied_store_is_whole(store, tmp_path):
    made = publish(store)
    shutil.copytree(store.root, tmp_path / "copy")
    assert Store(tmp_path / "copy").verify(made.digest) == []


def test_notes_are_kept_and_replaced(store):
    assert store.note("k") is None
    store.keep_note("k", {"a": 1})
    store.keep_note("k", {"a": 2})
    assert store.note("k") == {"a": 2}


def test_unfinished_work_is_kept_until_it_is_published(store):
    (store.work("f" * 64) / "step").write_text("7")
    assert (store.work("f" * 64) / "step").read_text() == "7"
    publish(store)
    assert list((store.root / "work").iterdir()) == []
    assert time.time() - store.root.stat().st_mtime < 3600
