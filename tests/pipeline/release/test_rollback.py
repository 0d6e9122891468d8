"""The digests that a tag can be rolled back to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rarefy.pipeline.release.promotion import rollback
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.store.store import Store
from rarefy.pipeline.terms.errors import EvidenceError
from tests.desk import Desk
from tests.pipeline.store.artifacts import damage, publish


def test_rollback_to_what_it_cannot(desk: Desk) -> None:
    one, two = (publish(desk.store, str(n), f"{n}" * 64) for n in range(2))
    missing = desk.rarefy("rollback", "production")
    assert missing.code == 2
    assert "production: no tag in" in missing.err
    for each in (one, two):
        desk.store.tag("production", each.digest)
    never = desk.rarefy("rollback", "production", "--artifact", desk.digest)
    assert never.code == 2
    assert f"production never pointed there; it pointed at {one.short}, {two.short}" in never.err
    assert desk.rarefy("rollback", "production", "--artifact", two.short).code == 2
    damage(one.directory / "a.txt")
    damaged = desk.rarefy("rollback", "production")
    assert damaged.code == 6
    assert "a.txt: the content has changed" in damaged.err
    shutil.rmtree(one.directory)
    gone = desk.rarefy("rollback", "production")
    assert gone.code == 6
    assert "is no longer in this store" in gone.err
    assert desk.production == two.digest


def test_rollback_of_a_remote_s_tag(desk: Desk, tmp_path: Path) -> None:
    url, there = f"file://{tmp_path}/shared", Store(tmp_path / "shared")
    made = [publish(there, str(n), f"{n}" * 64) for n in range(3)]
    for each in made:
        there.tag("production", each.digest)
    said = desk.rarefy("rollback", f"{url}#production")
    assert said.out == f"{url}#production -> {made[1].short} (was {made[2].short})\n"
    tag = there.find_tag("production")
    assert (tag.digest, tag.moves[-1].why) == (made[1].digest, "rollback")
    assert desk.rarefy("rollback", f"{url}#staging").code == 2
    damage(made[0].directory / "a.txt")
    damaged = desk.rarefy("rollback", f"{url}#production")
    assert damaged.code == 6
    assert f"a.txt of artifact {made[0].short} is damaged or missing" in damaged.err
    shutil.rmtree(made[0].directory)
    assert desk.rarefy("rollback", f"{url}#production").code == 6
    assert there.tags() == {"production": made[1].digest}


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_tag_that_moves_while_a_rollback_is_decided_stays_where_it_was_put(
    desk: Desk, tmp_path: Path, where: str
) -> None:
    there = Store(tmp_path / "shared")
    store, tag = {
        "here": (desk.store, "production"),
        "there": (there, f"file://{tmp_path}/shared#production"),
    }[where]
    made = [publish(store, str(n), f"{n}" * 64) for n in range(3)]
    for each in made[:2]:
        store.tag("production", each.digest)
    with pytest.raises(EvidenceError, match="was moved in the meantime"):
        rollback(tag, Home(desk.home), ready=lambda _: store.tag("production", made[2].digest))
    assert store.tags()["production"] == made[2].digest
