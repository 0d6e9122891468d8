"""A lease protects what a process uses from gc, exactly as long as the process lives."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

from rarefy.pipeline.store.garbage import Collector, Garbage
from rarefy.pipeline.store.remote import artifacts
from rarefy.pipeline.store.store import Store
from tests.pipeline.store.artifacts import publish

FORK = multiprocessing.get_context("fork")


def garbage(store: Store) -> list[Garbage]:
    return Collector(store, days=-1).find()


def test_what_a_living_process_uses_stays_and_a_kill_ends_that(store):
    made, loose = publish(store), publish(store, "loose", "2" * 64)
    (store.root / "ready").unlink(missing_ok=True)

    def train():
        lease = store.lease()
        assert store.use(made.digest, lease)
        (store.root / "ready").touch()
        time.sleep(60)

    process = FORK.Process(target=train)
    process.start()
    while not (store.root / "ready").exists():
        time.sleep(0.01)
    assert [found.path for found in garbage(store)] == [loose.directory]
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert {found.path for found in garbage(store)} == {made.directory, loose.directory}
    assert list((store.root / "leases").iterdir()) == []


def test_what_is_published_under_a_lease_is_protected_from_the_start(store):
    lease = store.lease()
    made = publish(store, lease=lease)
    assert garbage(store) == []
    publish(store, lease=lease)
    lease.close()
    assert [found.path for found in garbage(store)] == [made.directory]


def test_a_forked_child_that_ends_leaves_its_parent_s_lease(store):
    lease = store.lease()
    made = publish(store, lease=lease)
    child = os.fork()
    if child == 0:
        lease.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert garbage(store) == []
    assert store.digests() == [made.digest]


def test_a_lease_that_nobody_remembers_ends(store):
    lease = store.lease()
    publish(store, lease=lease)
    del lease
    assert len(garbage(store)) == 1


def test_what_is_being_pushed_stays(store, tmp_path, monkeypatch):
    made, found = publish(store), []
    real = artifacts.Remote.send

    def send(there, artifact):
        found.extend(garbage(store))
        return real(there, artifact)

    monkeypatch.setattr(artifacts.Remote, "send", send)
    artifacts.push(store, made.digest, f"file://{tmp_path}/remote")
    assert found == []
    assert [each.path for each in garbage(store)] == [made.directory]
