"""What a list shows of an artifact: what opening it gives, and the same errors."""

from __future__ import annotations

import json

import pytest

from rarefy.pipeline.store import listing
from rarefy.pipeline.store.artifact import (
    MANIFEST,
    RUN,
    Kind,
    Manifest,
    NewerError,
    Parent,
    StageRecord,
    list_files,
)
from rarefy.pipeline.store.store import Store
from rarefy.pipeline.terms.errors import IntegrityError, RecipeError


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def publish(store, text, parent=None):
    with store.draft() as folder:
        (folder / "weights").write_text(text)
        parents = (Parent(digest=parent, role="input"),) if parent else ()
        stage = StageRecord(name="say", version=1, parameters={}, fingerprint=text * 3)
        files = list_files(folder)
        manifest = Manifest(kind=Kind.CHECKPOINT, files=files, stage=stage, parents=parents)
        return store.publish(folder, manifest, {"started": "2026-01-01T00:00:00+00:00"}).digest


def test_facts_are_those_of_the_manifest(store):
    first = publish(store, "a")
    second = publish(store, "bcd", first)
    found = listing.read(store, second)
    manifest = store.open(second).manifest
    assert found == (manifest.kind, "say", 3, [first], 1_767_225_600)


def test_no_artifact_is_opened_for_them(store, monkeypatch):
    digest = publish(store, "a")
    monkeypatch.delattr(Store, "open")
    assert listing.read(store, digest).size == 1


@pytest.mark.parametrize("name", ["weights", MANIFEST])
def test_a_changed_file_is_an_error(store, name):
    digest = publish(store, "a")
    path = store.directory(digest) / name
    path.chmod(0o644)
    path.write_text("longer than it was")
    with pytest.raises(IntegrityError):
        listing.read(store, digest)


def test_a_manifest_of_a_newer_version(store):
    digest = publish(store, "a")
    path = store.directory(digest) / MANIFEST
    values = json.loads(path.read_text()) | {"schema": "rarefy.artifact/99"}
    path.chmod(0o644)
    path.write_text(json.dumps(values))
    with pytest.raises(NewerError):
        listing.read(store, digest)


def test_an_artifact_that_is_gone(store):
    with pytest.raises(RecipeError, match="no such artifact"):
        listing.read(store, "0" * 64)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"started": "yesterday"}', '{"started": 5}', '{"started": null}']
)
def test_a_run_record_that_says_nothing(store, text):
    digest = publish(store, "a")
    path = store.directory(digest) / RUN
    path.chmod(0o644)
    path.write_text(text)
    assert listing.read(store, digest).started is None
