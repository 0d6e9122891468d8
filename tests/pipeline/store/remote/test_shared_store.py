"""A store in front of a remote one: work of another machine is found, its files come when read."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from rarefy.pipeline.recipe.recipe import MODEL
from rarefy.pipeline.store.remote import artifacts, shared_store
from rarefy.pipeline.store.remote.artifacts import Remote
from rarefy.pipeline.store.remote.shared_store import Shared
from rarefy.pipeline.store.store import Store
from rarefy.pipeline.terms.errors import IntegrityError, ProviderError
from tests.conftest import Workshop, execute
from tests.pipeline.store.artifacts import damage, publish


@pytest.fixture
def cold(tmp_path: Path, url: str) -> Shared:
    return Shared(tmp_path / "cold", url)


def test_shared_work_is_found_without_its_files_which_come_when_asked(store, url, cold):
    made = publish(store)
    assert shared_store.share(store, [made], url) == made.manifest.size
    found = cold.lookup(made.manifest.stage.fingerprint)
    assert found is not None
    assert (found.digest, found.manifest) == (made.digest, made.manifest)
    assert not found.directory.exists()
    assert cold.use(found.digest, cold.lease())
    cold.bring(found.digest)
    assert cold.verify(found.digest) == []
    assert shared_store.share(cold, [found], url) == 0


def test_what_is_there_already_is_not_read_again(store, url, cold, monkeypatch):
    made = publish(store)
    shared_store.share(store, [made], url)
    pulled = cold.lookup(made.manifest.stage.fingerprint)
    cold.bring(made.digest)
    with monkeypatch.context() as patch:
        patch.setattr(Remote, "sha256", lambda *_: pytest.fail("a file there was read"))
        patch.setattr(Store, "check", lambda *_: pytest.fail("a file here was read"))
        patch.setattr(Remote, "write", lambda *_: pytest.fail("something was written"))
        assert shared_store.share(store, [made], url) == 0
        assert shared_store.share(cold, [pulled], url) == 0


@pytest.mark.parametrize("lost", ["a.txt", "manifest.json", "the end of a.txt", "the entry"])
def test_what_is_not_whole_there_is_shared_again(store, url, cold, lost):
    made = publish(store)
    fingerprint = made.manifest.stage.fingerprint
    shared_store.share(store, [made], url)
    there = Remote.open(url)
    if lost == "the end of a.txt":
        there.write(f"artifacts/sha256/{made.digest}/a.txt", b"hell")
    elif lost == "the entry":
        there.write(f"fingerprints/{fingerprint}.json", b"{")
    else:
        there.system.rm(f"{there.root}/artifacts/sha256/{made.digest}/{lost}")
    shared_store.share(store, [made], url)
    assert cold.lookup(fingerprint).digest == made.digest
    cold.bring(made.digest)
    assert cold.verify(made.digest) == []


def test_work_that_nobody_shared_is_not_there(store, cold):
    made = publish(store)
    assert cold.lookup(made.manifest.stage.fingerprint) is None
    assert not cold.use(made.digest)


def test_an_entry_whose_artifact_was_deleted_there_means_nothing(store, url, cold):
    made = publish(store)
    shared_store.share(store, [made], url)
    there = Remote.open(url)
    there.system.rm(f"{there.root}/artifacts/sha256/{made.digest}", recursive=True)
    assert cold.lookup(made.manifest.stage.fingerprint) is None


def test_work_that_the_next_run_repeats_is_sent_but_not_found(store, url, cold):
    made = publish(store, lasts=False)
    shared_store.share(store, [made], url)
    assert cold.lookup(made.manifest.stage.fingerprint) is None
    assert artifacts.pull(cold, url, made.digest).digest == made.digest


def test_notes_are_shared_if_they_were_used(tmp_path, url, cold):
    warm = Shared(tmp_path / "warm", url)
    warm.keep_note("score-1", {"accuracy": 0.5})
    shared_store.share(warm, [], url)
    assert cold.note("score-1") == {"accuracy": 0.5}
    Remote.open(url).write("notes/score-1.json", b"{")
    assert cold.note("score-1") == {"accuracy": 0.5}, "kept here"
    assert Shared(tmp_path / "third", url).note("score-1") is None, "damaged: measured again"


def test_a_damaged_entry_is_named(store, url, cold):
    made = publish(store)
    fingerprint = made.manifest.stage.fingerprint
    Remote.open(url).write(f"fingerprints/{fingerprint}.json", b'{"digest": "../.."}')
    with pytest.raises(
        IntegrityError, match=f"fingerprints/{fingerprint}.json: .* delete it there"
    ):
        cold.lookup(fingerprint)


def test_a_cold_machine_pulls_only_what_the_next_stage_needs(workshop: Workshop, tmp_path: Path):
    url = f"file://{tmp_path}/remote"
    chain = [{"quick:Word": {"word": "first"}}, {"quick:Word": {"word": "second"}}]
    finished = workshop.run(*chain)
    shared_store.share(workshop.store, [step.artifact for step in finished.values()], url)

    longer = workshop.open(*chain, {"quick:Word": {"word": "third"}})
    longer.plan.store = Shared(tmp_path / "cold", url)
    again = execute(longer)
    assert workshop.ran() == ["first", "second", "third"]
    assert [again[name].cached for name in (MODEL, "word", "word-2", "word-3")] == [
        True,
        True,
        True,
        False,
    ]
    here = {name for name, step in again.items() if step.artifact.directory.is_dir()}
    assert here == {MODEL, "word-2", "word-3"}, "the model's tokenizer counts the rows' lengths"


def test_a_download_that_breaks_off_goes_on_where_it_was(store, url, other, monkeypatch):
    made = publish(store, "0123456789" * 1000)
    artifacts.push(store, made.digest, url)
    system = Remote.open(url).system
    whole, begun = system.open, {}

    def opened(there, *arguments, **options):
        file = whole(there, *arguments, **options)
        seek = file.seek

        def noted(place):
            begun[there.rpartition("/")[2]] = place
            return seek(place)

        file.seek = noted
        return file

    def breaks_off(there, *arguments, **options):
        if not there.endswith("a.txt"):
            return whole(there, *arguments, **options)
        file = io.BytesIO(made.path("a.txt").read_bytes()[:4000])
        read = file.read
        file.read = lambda size: read(size) or dead()
        return file

    def dead():
        raise ConnectionResetError("the line is dead")

    with monkeypatch.context() as patch:
        patch.setattr(system, "open", breaks_off)
        with pytest.raises(ProviderError, match="the line is dead"):
            artifacts.pull(other, url, made.digest)
        patch.setattr(system, "open", opened)
        found = artifacts.pull(other, url, made.digest)
    assert begun == {"a.txt": 4000, "b.bin": 0}
    assert other.verify(found.digest) == []
    assert list((other.root / "work").iterdir()) == []


def test_what_was_left_of_another_file_is_no_damage_there_and_is_not_published(store, url, other):
    made = publish(store)
    artifacts.push(store, made.digest, url)
    left = other.work(f"pull-{made.digest}")
    (left / "a.txt").write_text("HELLO")
    assert other.verify(artifacts.pull(other, url, made.digest).digest) == []
    assert list((other.root / "work").iterdir()) == []


def test_damage_there_is_said_also_if_a_part_was_left_here(store, tmp_path, other):
    made = publish(store)
    artifacts.push(store, made.digest, f"file://{tmp_path}/remote")
    damage(tmp_path / "remote" / "artifacts" / "sha256" / made.digest / "a.txt")
    (other.work(f"pull-{made.digest}") / "a.txt").write_text("no")
    with pytest.raises(IntegrityError, match=r"a\.txt does not match .* push it again"):
        artifacts.pull(other, f"file://{tmp_path}/remote", made.digest)
    assert list((other.root / "work").iterdir()) == []


def test_of_two_who_pull_at_once_the_second_fetches_nothing(store, other, tmp_path, monkeypatch):
    url, made, manifest = f"file://{tmp_path}/remote", publish(store), Remote.manifest
    artifacts.push(store, made.digest, url)

    def never(*_arguments):
        raise AssertionError("fetched again")

    def slower(there, digest):
        """Another process is done before this one has the lock."""
        monkeypatch.setattr(Remote, "manifest", manifest)
        artifacts.pull(Store(other.root), url, digest)
        monkeypatch.setattr(Remote, "fetch", never)
        return manifest(there, digest)

    monkeypatch.setattr(Remote, "manifest", slower)
    assert artifacts.pull(other, url, made.digest).digest == made.digest
    assert list((other.root / "work").iterdir()) == []


def test_a_copy_of_what_a_run_has_made_meanwhile_is_not_kept(store, other, tmp_path, monkeypatch):
    url, made, record = f"file://{tmp_path}/remote", publish(store), Remote.run_record
    artifacts.push(store, made.digest, url)

    def meanwhile(there, digest):
        publish(other)
        return record(there, digest)

    monkeypatch.setattr(Remote, "run_record", meanwhile)
    assert artifacts.pull(other, url, made.digest).path("a.txt").read_text() == "hello"
    assert list((other.root / "work").iterdir()) == []
