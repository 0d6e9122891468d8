"""A full or read-only disk gives a one-line error, and nothing is lost."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from rarefy.pipeline.store import disk
from rarefy.pipeline.store.store import Store
from rarefy.pipeline.terms.errors import ProviderError, RecipeError
from tests.pipeline.store.artifacts import publish


class SafetensorError(Exception):
    """The safetensors library raises its own error, which is not an OSError."""


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
    ],
    ids=["enospc", "quota", "rust"],
)
def test_a_full_disk_is_said_in_one_line_and_loses_nothing(store, error):
    made = publish(store)

    def fail():
        with store.draft():
            raise RuntimeError("a library's own words") from error

    with pytest.raises(ProviderError) as caught:
        fail()
    assert "the disk is full; free some space and run again" in str(caught.value)
    assert caught.value.exit_code == 5
    assert store.verify(made.digest) == []
    assert list((store.root / "tmp").iterdir()) == []


def test_a_file_is_replaced_by_a_whole_one_that_is_on_the_disk(tmp_path, monkeypatch):
    path = tmp_path / "tag.json"
    path.write_text("old")
    done: list[tuple[str, int]] = []
    fsync, replace = os.fsync, Path.replace

    def syncing(descriptor):
        done.append(("flushed", os.fstat(descriptor).st_ino))
        fsync(descriptor)

    def replacing(part, target):
        assert path.read_text() == "old"
        done.append(("in place", part.stat().st_ino))
        return replace(part, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(Path, "replace", replacing)
    disk.write_text(path, "new")
    assert path.read_text() == "new"
    new, folder = path.stat().st_ino, tmp_path.stat().st_ino
    assert done == [("flushed", new), ("in place", new), ("flushed", folder)]


def test_a_file_whose_successor_cannot_be_written_is_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "tag.json"
    path.write_text("old")

    def fail(_descriptor):
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="the disk is broken"):
        disk.write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path], "nothing is left of what was not written"


def test_what_another_process_has_deleted_has_no_size_and_no_time(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "here").write_bytes(b"four")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")  # listed, and then not found
    assert disk.size(tmp_path) == disk.size(tmp_path / "sub" / "here") == 4
    assert disk.size(tmp_path / "nowhere") == 0
    assert disk.changed(tmp_path) == tmp_path.stat().st_mtime
    assert disk.changed(tmp_path / "gone") == 0


def test_a_network_disk_is_known_by_its_file_system(tmp_path, monkeypatch):
    mounts = [
        *(("", "ext4"), ("share", "nfs4"), ("share/local", "xfs"), ("ssh", "fuse.sshfs")),
        *(("automatic", "autofs"), ("automatic", "cifs")),
    ]
    found = [SimpleNamespace(mountpoint=str(tmp_path / at), fstype=of) for at, of in mounts]
    monkeypatch.setattr("psutil.disk_partitions", lambda **_: found)
    on_network = {"share", "share/deep", "ssh", "automatic"}
    for folder in ("", "here", "shared", "share/local", *on_network):
        assert disk.on_network(tmp_path / folder) is (folder in on_network), folder


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of one megabyte."""
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this container may not mount")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_is_really_full(small_disk):
    store = Store(small_disk / "store")
    made = publish(store)
    with pytest.raises(ProviderError, match="the disk is full"), store.draft() as draft:
        (draft / "big").write_bytes(b"x" * 2_000_000)
    import torch
    from safetensors.torch import save_file

    for save in (save_file, torch.save):
        weights = {"w": torch.zeros(500_000)}
        with pytest.raises(ProviderError, match="the disk is full"), store.draft() as draft:
            save(weights, draft / "big")
    gc.collect()  # torch's error has the file open, whose place is free once it is gone
    assert store.verify(made.digest) == []
    assert publish(store, "again", "2" * 64).digest in store.digests()


def test_a_disk_that_fills_while_the_index_is_written(store, monkeypatch):
    made = publish(store)

    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk, "write", full)
    with pytest.raises(ProviderError, match="published artifacts are intact"):
        publish(store, "other", "2" * 64)
    monkeypatch.undo()
    assert store.digests() == [made.digest]
    assert store.lookup("2" * 64) is None


def test_a_store_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(*_arguments, **_named):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ProviderError, match="cannot write here: Permission denied"):
        Store(tmp_path / "store")


def test_a_file_that_a_user_has_named_is_placed_or_refused_in_one_line(tmp_path, monkeypatch):
    file = tmp_path / "new" / "deep" / "file"
    with disk.placing(file):
        file.write_text("written")
    for impossible in (file / "below", tmp_path / "new", tmp_path / ("x" * 300)):
        with pytest.raises(RecipeError, match="cannot be written: ") as caught:  # noqa: SIM117
            with disk.placing(impossible):
                impossible.write_text("not written")
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(ProviderError, match="cannot write here"), disk.placing(file):
        raise PermissionError(errno.EACCES, "Permission denied", str(file))


def test_json_is_utf_8_whatever_the_locale(tmp_path):
    (tmp_path / "tag.json").write_text('{"run": "gr\u00f6\u00dfe"}', encoding="utf-8")
    program = (
        "import sys; from pathlib import Path; from rarefy.pipeline.store import disk; "
        "print(ascii(disk.read(Path(sys.argv[1]), 'run')))"
    )
    said = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", program, str(tmp_path / "tag.json")],
        env=os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "'gr\\xf6\\xdfe'\n"


def test_a_file_system_that_flushes_no_folders_is_used_all_the_same(tmp_path, monkeypatch):
    def refuse(descriptor):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(disk.os, "fsync", refuse)
    disk.sync(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Invalid argument"):
        disk.sync(tmp_path / "file")
