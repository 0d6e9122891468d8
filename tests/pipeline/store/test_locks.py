"""Locks exclude processes and threads, say who waits, and never blame another run for an error."""

from __future__ import annotations

import errno
import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest

from rarefy.pipeline.store import locks
from rarefy.pipeline.store.garbage import Collector
from rarefy.pipeline.terms.errors import ProviderError
from tests.pipeline.store.artifacts import publish


def test_a_lock_waits_for_another_process_and_says_so(store):
    held, release = multiprocessing.Event(), multiprocessing.Event()

    def hold():
        with store.lock("x" * 64):
            held.set()
            release.wait(20)

    other = multiprocessing.get_context("fork").Process(target=hold)
    other.start()
    assert held.wait(20)
    said = []
    threading.Timer(0.2, release.set).start()
    with store.lock("x" * 64, lambda: said.append("waiting")):
        assert release.is_set()
    other.join()
    assert said == ["waiting"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EIO, errno.EROFS])
def test_an_error_of_locking_is_not_called_another_run(store, monkeypatch, number):
    def refuse(*_arguments):
        raise OSError(number, os.strerror(number))

    said = []
    monkeypatch.setattr("fcntl.flock", refuse)
    refused = pytest.raises(ProviderError, match=f"cannot lock this file: {os.strerror(number)}")
    with refused, store.lock("x" * 64, lambda: said.append("waiting")):
        pass
    assert said == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_with_no_room_for_a_lock_is_full(store, monkeypatch, number):
    def refuse(*_arguments, **_named):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(ProviderError, match="the disk is full; free some"), store.lock("x" * 64):
        pass


def test_threads_exclude_each_other_too(tmp_path):
    inside, most = [], []

    def work():
        for _ in range(5):
            with locks.held(tmp_path / "lock"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.005)  # long enough for another to come in
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 20


def test_a_system_that_deletes_no_open_file_can_publish(store, monkeypatch):
    """Windows."""
    real = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path.parent.name == "locks":
            raise PermissionError(errno.EACCES, "used by another process", str(path))
        real(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    lease = store.lease()
    made = publish(store, lease=lease)
    lease.close()
    assert store.verify(made.digest) == []
    assert [found.path for found in Collector(store, days=-1).find()] == [made.directory]
