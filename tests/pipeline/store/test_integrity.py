"""Damage is detected, by size when an artifact is opened and by hash when it is verified."""

from __future__ import annotations

import json

import pytest

from rarefy.pipeline.store.artifact import MANIFEST
from rarefy.pipeline.store.store import REMEDY
from rarefy.pipeline.terms.digests import canonical_json
from rarefy.pipeline.terms.errors import IntegrityError
from tests.pipeline.store.artifacts import damage, overwrite, publish


def test_a_cut_file_is_caught_when_it_is_opened(store):
    made = publish(store)
    overwrite(made.directory / "a.txt", "hell")
    with pytest.raises(
        IntegrityError, match=r"a\.txt is missing or truncated; remove it with `rarefy artifact gc"
    ):
        store.lookup("f" * 64)
    (made.directory / "a.txt").unlink()
    with pytest.raises(IntegrityError, match="missing or truncated"):
        store.open(made.digest)


@pytest.mark.parametrize("name", ["a.txt", "sub/b.bin"])
def test_a_flipped_bit_is_caught_by_verify(store, name):
    made = publish(store)
    damage(made.directory / name)
    assert store.verify(made.digest) == [f"{name}: the content has changed since it was published"]


def test_a_file_that_was_added_is_caught_by_verify(store):
    made = publish(store)
    (made.directory / "sub" / "extra").touch()
    assert store.verify(made.digest) == ["sub/extra: not listed in the manifest"]


def test_a_changed_and_a_broken_manifest(store):
    made = publish(store)
    path = made.directory / MANIFEST
    values = json.loads(path.read_text())
    overwrite(path, canonical_json(values | {"kind": "bundle"}).decode())
    with pytest.raises(IntegrityError, match="its manifest was modified"):
        store.open(made.digest)
    without_null = {name: value for name, value in values.items() if value is not None}
    assert without_null != values
    for broken in (
        "{",
        json.dumps(values | {"files": [{"path": "../up"}]}),
        json.dumps(values),  # not canonical: the values are equal, the bytes differ
        canonical_json(without_null).decode(),
    ):
        overwrite(path, broken)
        with pytest.raises(IntegrityError, match="its manifest is damaged"):
            store.open(made.digest)
    path.unlink()
    assert "its manifest is damaged" in store.verify(made.digest)[0]


def test_damage_is_said_with_one_remedy(store):
    made = publish(store)
    damage(made.directory / "a.txt")
    changed = r"\(.*\) is damaged: a\.txt: the content has changed"
    with pytest.raises(IntegrityError, match=changed) as caught:
        store.check(made.digest)
    assert str(caught.value).count(REMEDY) == 1
    overwrite(made.directory / MANIFEST, "{")
    with pytest.raises(IntegrityError, match="its manifest is damaged") as caught:
        store.check(made.digest)
    assert str(caught.value).count(REMEDY) == 1
