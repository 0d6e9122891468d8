"""An artifact's digest covers its bytes and its history; paths stay inside its folder."""

from __future__ import annotations

import hashlib
import os

import pytest
from pydantic import ValidationError

from rarefy.pipeline.store.artifact import (
    RUN,
    Artifact,
    FileEntry,
    Kind,
    Manifest,
    Metric,
    StageRecord,
    list_files,
)
from rarefy.pipeline.terms.errors import IntegrityError
from tests.pipeline.store.artifacts import publish


@pytest.fixture
def manifest(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt").write_bytes(b"two")
    (tmp_path / "a.txt").write_bytes(b"one")
    record = StageRecord(name="s", version=1, parameters={"rate": 1e-4}, fingerprint="f")
    return Manifest(kind=Kind.CHECKPOINT, files=list_files(tmp_path), stage=record)


def test_files_are_listed_with_their_own_sha256_in_a_fixed_order(tmp_path, manifest):
    assert [entry.path for entry in manifest.files] == ["a.txt", "sub/b.txt"]
    assert manifest.files[0].sha256 == hashlib.sha256(b"one").hexdigest()
    assert manifest.size == 6
    opened = Artifact(tmp_path, manifest, manifest.digest)
    assert opened.path("sub/b.txt").read_bytes() == b"two"
    with pytest.raises(KeyError, match=r"has no file 'c\.txt'"):
        opened.path("c.txt")


def test_the_digest_covers_every_byte_and_survives_json(tmp_path, manifest):
    assert Manifest.model_validate_json(manifest.canonical()).digest == manifest.digest
    (tmp_path / "a.txt").write_bytes(b"onE")
    changed = manifest.model_copy(update={"files": list_files(tmp_path)})
    assert changed.digest != manifest.digest
    scored = manifest.model_copy(update={"metrics": (Metric(name="loss", value=0.1),)})
    assert scored.digest != manifest.digest


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../up", "a/../../up", "a\\b"])
def test_a_path_that_leaves_the_artifact_is_refused(path):
    with pytest.raises(ValidationError, match="must be relative"):
        FileEntry(path=path, size=1, sha256="0" * 64)


def test_links_pipes_and_strange_names_are_refused(tmp_path):
    for name, make in {
        "link": lambda path: path.symlink_to("/etc/passwd"),
        "folder": lambda path: path.symlink_to("/etc"),
        "dangling": lambda path: path.symlink_to("nowhere"),
        "pipe": os.mkfifo,
    }.items():
        make(tmp_path / name)
        with pytest.raises(
            IntegrityError, match=f"{name}: an artifact must contain regular files only"
        ):
            list_files(tmp_path)
        (tmp_path / name).unlink()
    (tmp_path / "new\nline").touch()
    with pytest.raises(IntegrityError, match="not a portable file name"):
        list_files(tmp_path)


@pytest.mark.parametrize("data", [None, b"", b"{", b"[]", b"5", b"\xff"])
def test_a_run_record_that_is_missing_or_damaged_is_empty(store, data):
    """An artifact is whole without it, and `verify` says so: whatever opens it must not fail."""
    made = publish(store)
    path = made.directory / RUN
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    assert store.verify(made.digest) == []
    assert made.run_record() == {}
