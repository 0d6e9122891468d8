"""The logbook: entries that are replaced, logs, and runs whose process died."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path

import pytest

from rarefy.pipeline.run import logbook
from rarefy.pipeline.run.logbook import Logbook, Step
from rarefy.pipeline.store import disk
from rarefy.pipeline.store.artifact import NewerError
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.errors import DataError, IntegrityError, ProviderError, RecipeError


@pytest.fixture
def book(tmp_path):
    return Logbook(Home(tmp_path))


def write(book, name="demo", **changes):
    with book.writing(name, "inline", {"recipe": "demo.yaml"}, 3) as page:
        page.update(**changes)
    return page.entry.id


def test_an_entry_tells_how_far_a_run_is(book):
    with book.writing("demo", "inline", {}, 3) as page:
        page.update(step="prune", steps=(Step(id="model", digest="0", cached=True, seconds=0.0),))
        (entry,) = book.entries()
        assert (entry.state, entry.step, len(entry.steps), entry.total) == (
            "running",
            "prune",
            1,
            3,
        )
        assert book.alive(entry)
        page.update(state="pass")
    (entry,) = book.entries()
    assert (entry.state, entry.step) == ("pass", None)
    assert not book.alive(entry)
    assert entry.ended >= entry.started


def test_an_error_is_recorded_in_one_line_and_its_traceback_in_the_log(book):
    with pytest.raises(ZeroDivisionError), book.writing("demo", "inline", {}, 3):
        raise ZeroDivisionError("division by zero")
    (entry,) = book.entries()
    assert entry.state == "error"
    assert entry.message == "unexpected ZeroDivisionError: division by zero"
    assert "Traceback" in book.log(entry.id).read_text()


def test_an_error_of_ours_needs_no_traceback_and_shows_no_credentials(book):
    with pytest.raises(DataError), book.writing("demo", "inline", {"url": "s3://a:b@c/d"}, 3):
        raise DataError("https://me:secret@host/x: not found")
    (entry,) = book.entries()
    text = book.log(entry.id).read_text() + (book.folder / f"{entry.id}.json").read_text()
    assert "Traceback" not in text
    assert "not found" in entry.message
    assert "secret" not in text
    assert "a:b" not in text


def test_an_interrupted_run_is_not_an_error(book):
    with pytest.raises(KeyboardInterrupt), book.writing("demo", "inline", {}, 3):
        raise KeyboardInterrupt
    assert [entry.state for entry in book.entries()] == ["interrupted"]


def test_a_run_is_found_by_id_beginning_or_name(book):
    first, second = write(book), write(book, "other")
    third = write(book)
    assert book.find(second).id == second
    assert book.find("demo").id == third
    assert book.find("oth").id == second
    assert book.find(first).id == first
    with pytest.raises(RecipeError, match="2 runs have an id that begins so"):
        book.find("demo-")
    with pytest.raises(RecipeError, match="no such run"):
        book.find("what")


def test_the_oldest_runs_that_ended_are_forgotten(book, monkeypatch):
    monkeypatch.setattr(logbook, "KEPT", 2)
    with book.writing("long", "inline", {}, 3) as page:
        first = write(book, "first", state="pass")
        second, third = write(book, "second", state="pass"), write(book, "third", state="pass")
        left = {entry.id for entry in book.entries()}
        assert left == {page.entry.id, third} or left == {page.entry.id, second, third}
    assert not book.log(first).exists()


def test_the_log_is_followed_to_its_end(book):
    identifier = write(book)
    shown: list[str] = []
    book.follow(book.find(identifier), shown.append)
    assert shown == []
    with book.writing("demo", "inline", {}, 3) as page:
        page.say("one\ntwo")
    book.follow(book.find("demo"), shown.append)
    assert [line[21:] for line in "".join(shown).splitlines()] == ["one", "two"]


def test_a_killed_run_lasted_until_it_last_said_something(book):
    identifier = write(book)
    file = book.folder / f"{identifier}.json"
    started = book.find(identifier).started
    file.write_text(json.dumps(json.loads(file.read_text()) | {"state": "running", "ended": None}))
    os.utime(file, (started + 5, started + 5))
    os.utime(book.log(identifier), (started + 60, started + 60))
    entry = book.find(identifier)
    assert (entry.state, round(entry.seconds)) == ("killed", 60)


def test_a_killed_run_of_another_container_is_known_to_be_dead(book, monkeypatch):
    """Each container has a host name of its own; on one disk, the lock tells whether it lives."""
    with book.writing("demo", "inline", {}, 3) as page:
        page.update(host="a-container")
        assert book.find("demo").state == "running"
    file, lock = (book.folder / f"{page.entry.id}.{end}" for end in ("json", "lock"))
    file.write_text(json.dumps(json.loads(file.read_text()) | {"state": "running", "ended": None}))
    lock.touch()  # what SIGKILL leaves
    assert book.find("demo").state == "killed"
    monkeypatch.setattr(disk, "on_network", lambda folder: folder == book.folder)
    assert book.find("demo").state == "running"  # another machine's lock may look free here
    lock.unlink()
    assert book.find("demo").state == "killed"


def test_who_may_only_read_sees_the_runs_of_another_user(book, monkeypatch):
    opened = os.open

    def denied(path, flags, *arguments, **named):
        if str(path).endswith(".lock") and flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return opened(path, flags, *arguments, **named)

    with book.writing("demo", "inline", {}, 3), monkeypatch.context() as patch:
        patch.setattr(os, "open", denied)
        assert book.find("demo").state == "running"


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("{", IntegrityError, "the file is damaged; delete it"),
        ('{"schema": "rarefy.logbook/1"}', IntegrityError, "the file is damaged; delete it"),
        ('{"schema": "rarefy.logbook/20"}', NewerError, "made by a newer version of rarefy"),
    ],
)
def test_an_entry_that_cannot_be_read_hides_no_other(book, text, kind, words):
    wrong, right = write(book), write(book, "other")
    (book.folder / f"{wrong}.json").write_text(text)
    assert [entry.id for entry in book.entries()] == [right]
    assert book.find("other").id == right
    assert list(book.unreadable()) == [wrong]
    for reference in (wrong, "demo"):
        with pytest.raises(kind, match=words):
            book.find(reference)


def test_a_damaged_entry_stops_no_run(book, monkeypatch):
    monkeypatch.setattr(logbook, "KEPT", 1)
    damaged = book.folder / f"{write(book)}.json"
    damaged.write_text("{")
    assert write(book, "other")
    assert damaged.exists()


def test_a_full_disk_is_said_in_one_line(book, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with book.writing("demo", "inline", {}, 3) as page:
        with monkeypatch.context() as patch:
            patch.setattr(disk, "write_text", full)
            with pytest.raises(ProviderError, match="the disk is full"):
                page.update(step="prune")
        page.update(step="prune")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_log_that_cannot_be_ended_on_a_full_disk_says_so_in_one_line(book, monkeypatch):
    monkeypatch.setattr(Logbook, "log", lambda *_: Path("/dev/full"))
    with pytest.raises(ProviderError, match="the disk is full"):  # noqa: SIM117
        with book.writing("demo", "inline", {}, 3) as page:
            page.say("started")


@pytest.mark.parametrize(
    ("handler", "interrupt", "stop"),
    [
        (signal.SIG_DFL, signal.default_int_handler, "SIGINT"),
        (signal.SIG_DFL, signal.SIG_IGN, "SIGTERM"),
        (signal.default_int_handler, signal.default_int_handler, "SIGTERM"),
    ],
)
def test_a_notebook_is_interrupted_and_not_ended(book, handler, interrupt, stop):
    before = signal.signal(signal.SIGTERM, handler), signal.signal(signal.SIGINT, interrupt)
    try:
        write(book)
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
    assert book.find("demo").stop == stop
