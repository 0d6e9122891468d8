"""Garbage collection: what is needed stays, also if it became needed while gc was at work."""

from __future__ import annotations

import os
import threading
import time

import pytest

from rarefy.pipeline.store import garbage as collecting
from rarefy.pipeline.store.artifact import MANIFEST, NewerError
from rarefy.pipeline.store.garbage import Collector, Garbage
from rarefy.pipeline.store.store import Store
from rarefy.pipeline.terms.errors import IntegrityError, RecipeError
from tests.pipeline.store.artifacts import damage, make_newer, overwrite, publish


def garbage(store: Store, days: float = -1, damaged: bool = False) -> list[Garbage]:
    return Collector(store, days=days, damaged=damaged).find()


def delete(store: Store, found: Garbage, damaged: bool = False) -> bool:
    return Collector(store, days=-1, damaged=damaged).delete(found)


def test_damage_goes_with_gc_and_the_work_can_be_done_again(store):
    made = publish(store)
    store.tag("keep", made.digest)
    damage(made.directory / "a.txt")
    (found,) = garbage(store, days=14, damaged=True)
    assert found.reason.startswith("damaged: a.txt")
    assert found.reason.endswith("; of the tag 'keep', which will point at nothing")
    assert delete(store, found, damaged=True)
    assert store.lookup("f" * 64) is None
    with pytest.raises(
        RecipeError, match=r"the tag 'keep' points at .* no longer in .* pull URL#k"
    ):
        store.open("keep")
    assert publish(store).digest == made.digest
    assert store.verify(made.digest) == []


def test_gc_of_damage_works_where_a_manifest_is_broken_and_else_refuses(store):
    made = publish(store)
    store.tag("keep", made.digest)
    overwrite(made.directory / MANIFEST, "{")
    with pytest.raises(IntegrityError, match="gc --damaged --yes"):
        garbage(store, days=0)
    assert [g.path for g in garbage(store, days=0, damaged=True)] == [made.directory]


def test_gc_keeps_what_a_tag_reaches_and_what_is_young(store):
    parent = publish(store, "parent", "1" * 64)
    child = publish(store, "child", "2" * 64, parents=[parent.digest])
    loose = publish(store, "loose", "3" * 64)
    store.tag("best", child.digest)
    assert garbage(store, days=1) == []
    assert [g.path for g in garbage(store, days=-1)] == [loose.directory]
    store.untag("best")
    assert len(garbage(store, days=-1)) == 3


@pytest.mark.parametrize("act", ["delete", "use", "publish", "tag"])
def test_what_deletes_and_what_needs_an_artifact_wait_for_each_other(store, act):
    made = publish(store)
    (found,) = garbage(store)
    acts = {
        "delete": lambda: delete(store, found),
        "use": lambda: store.use(made.digest),
        "publish": lambda: publish(store, "other", "2" * 64),
        "tag": lambda: store.tag("best", made.digest),
    }
    waiting = threading.Thread(target=acts[act])
    with store.guard():
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
    waiting.join(20)
    assert not waiting.is_alive()


def test_gc_takes_drafts_and_work_of_dead_processes_only(store):
    (store.root / "tmp" / "dead").mkdir()
    store.work("0" * 64)
    with store.draft() as alive, store.lock("1" * 64):
        store.work("1" * 64)
        found = {found.path.name for found in garbage(store, days=-1)}
        assert found == {"dead", "0" * 64}
        assert alive.is_dir()
    for found in garbage(store, days=-1):
        assert delete(store, found)
        assert not delete(store, found)
    assert list((store.root / "tmp").iterdir()) == []


def test_gc_keeps_what_a_rollback_would_need(store):
    parent = publish(store, "parent", "1" * 64)
    old = publish(store, "old", "2" * 64, parents=[parent.digest])
    new = publish(store, "new", "3" * 64)
    for made in (old, new):
        store.tag("best", made.digest)
    assert garbage(store, days=-1) == []
    for number in range(10):
        store.tag("best", publish(store, str(number), f"{number:064x}").digest)
    gone = {found.path.name for found in garbage(store, days=-1)}
    assert gone == {parent.digest, old.digest, new.digest}


def test_what_was_tagged_after_it_was_listed_stays(store):
    made = publish(store)
    collector = Collector(store, days=-1)
    (found,) = collector.find()
    store.tag("best", made.digest)
    assert not collector.delete(found)
    assert store.verify("best") == []
    store.untag("best")
    assert collector.delete(found)
    assert store.digests() == []


def test_many_go_in_batches_and_what_was_tagged_between_two_stays(store, monkeypatch):
    """What is needed is walked once a batch: for each artifact, gc of thousands took minutes."""
    monkeypatch.setattr(collecting, "BATCH", 3)
    for number in range(7):
        publish(store, str(number), f"{number:064x}")
    collector = Collector(store, days=-1)
    *_, last = found = collector.find()
    needed, walks, remove = collector.needed, [], collecting.remove
    monkeypatch.setattr(collector, "needed", lambda: walks.append(1) or needed())

    def tagging(doomed):  # between two batches, without the guard
        Store(store.root).tag("best", last.path.name)
        remove(doomed)

    monkeypatch.setattr(collecting, "remove", tagging)
    assert collector.delete_all(found) == found[:-1]
    assert len(walks) == 3
    assert store.digests() == [last.path.name]
    assert list((store.root / "tmp").iterdir()) == []


def test_what_was_moved_away_is_deleted_if_the_next_cannot_be(store, monkeypatch):
    for number in range(2):
        publish(store, str(number), f"{number:064x}")
    collector, hide, moved = Collector(store, days=-1), store.hide, []

    def full(path):
        if moved:
            raise OSError("no")
        moved.append(path)
        return hide(path)

    monkeypatch.setattr(store, "hide", full)
    with pytest.raises(OSError, match="no"):
        collector.delete_all(collector.find())
    assert len(store.digests()) == 1
    assert list((store.root / "tmp").iterdir()) == []


def test_what_was_mended_after_it_was_listed_stays(store):
    made = publish(store)
    damage(made.directory / "a.txt")
    collector = Collector(store, days=14, damaged=True)
    (found,) = collector.find()
    publish(store)
    assert not collector.delete(found)
    assert store.verify(made.digest) == []


def test_what_a_run_took_from_the_cache_is_young_again(store):
    made = publish(store)
    old = time.time() - 15 * 86400
    os.utime(made.directory, (old, old))
    collector = Collector(store, days=14)
    (found,) = collector.find()
    assert store.use(made.digest)
    assert not collector.delete(found)
    assert garbage(store, days=14) == []


def test_a_stage_that_resumed_after_its_progress_was_listed_keeps_it(store):
    work, collector = store.work("0" * 64), Collector(store, days=-1)
    (found,) = collector.find()
    with store.lock("0" * 64):
        assert not collector.delete(found)
        assert work.is_dir()
    assert collector.delete(found)


def test_progress_that_moved_on_after_it_was_listed_stays(store):
    work = store.work("0" * 64)
    old = time.time() - 15 * 86400
    os.utime(work, (old, old))
    collector = Collector(store, days=14)
    (found,) = collector.find()
    (work / "step").touch()
    assert not collector.delete(found)


@pytest.mark.parametrize("damaged", [False, True])
def test_an_artifact_of_a_newer_version_is_no_garbage(store, damaged):
    newer = publish(store)
    make_newer(newer.directory)
    assert garbage(store, damaged=damaged) == []
    assert newer.directory.is_dir()


def test_nothing_is_deleted_if_a_tag_reaches_an_artifact_of_a_newer_version(store):
    """What it was made from is unknown."""
    publish(store, "parent", "1" * 64)
    child = publish(store, "child", "2" * 64)
    store.tag("best", child.digest)
    make_newer(child.directory)
    with pytest.raises(NewerError, match=r"newer version of rarefy \(manifest schema 2\); upgrade"):
        garbage(store)


def test_a_stray_file_among_the_artifacts_is_left_alone(store):
    made = publish(store)
    (made.directory.parent / ".DS_Store").touch()
    damage(made.directory / "a.txt")
    assert [found.path for found in garbage(store, damaged=True)] == [made.directory]


def test_deleting_copes_with_files_that_are_read_only(store):
    made = publish(store)
    with pytest.raises(PermissionError) if os.geteuid() else pytest.MonkeyPatch.context():
        (made.directory / "a.txt").open("a").close()
    (found,) = garbage(store)
    assert delete(store, found)
    assert list((store.root / "tmp").iterdir()) == []


def test_a_stray_file_among_drafts_and_work_is_deleted_once(store):
    for folder in ("tmp", "work"):
        (store.root / folder / "stray").write_text("five!")
    found = garbage(store)
    assert [each.size for each in found] == [5, 5]
    assert all(delete(store, each) for each in found)
    assert garbage(store) == []


def test_a_draft_that_another_gc_has_just_deleted_is_no_error(store, monkeypatch):
    draft = store.root / "tmp" / "dead"
    draft.mkdir()
    collector = Collector(store, days=0)
    (garbage,) = collector.find()
    hide = store.hide
    monkeypatch.setattr(store, "hide", lambda path: (path.rmdir(), hide(path))[1])
    assert not collector.delete(garbage)


def test_a_folder_that_another_gc_deletes_while_it_is_measured_is_no_error(store, monkeypatch):
    draft = store.root / "tmp" / "dead"
    (draft / "gone").mkdir(parents=True)
    (draft / "left").write_bytes(b"four")
    scan = os.scandir

    def deleting(path):
        if os.fspath(path).endswith("gone"):
            raise FileNotFoundError(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", deleting)
    (garbage,) = Collector(store, days=0).find()
    assert garbage.size == 4
