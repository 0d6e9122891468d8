"""``rarefy rollback``: move a tag back and print where it pointed."""

from __future__ import annotations

import json

from tests.desk import Desk
from tests.pipeline.store.artifacts import publish
from tests.registry import Registry


def test_rollback_goes_back_and_further_back(desk: Desk) -> None:
    made = [publish(desk.store, str(n), f"{n}" * 64) for n in range(3)]
    for each in made:
        desk.store.tag("production", each.digest)
    said = desk.rarefy("rollback", "production")
    assert said.out == f"production -> {made[1].short} (was {made[2].short})\n"
    shown = json.loads(desk.rarefy("rollback", "production", "--json").out)
    assert shown == {"tag": "production", "digest": made[0].digest, "from": made[1].digest}
    end = desk.rarefy("rollback", "production")
    assert end.code == 2
    assert f"there is nothing before {made[0].short}" in end.err
    assert desk.rarefy("rollback", "production", "--to", made[2].short).code == 0
    assert desk.production == made[2].digest
    history = desk.rarefy("artifact", "show", "production").out.split("history")[1:]
    assert [line.split()[2] for line in history] == ["rollback"] * 3 + ["tag"] * 3
    rows = {row["digest"]: row for row in json.loads(desk.rarefy("artifact", "ls", "--json").out)}
    assert rows[made[2].digest]["tags"] == ["production"]
    assert rows[made[0].digest]["past_tags"] == ["production"]


def test_the_alias_goes_back_with_the_tag(desk: Desk, registry: Registry) -> None:
    made = [publish(desk.store, str(n), f"{n}" * 64) for n in range(3)]
    for each in made:
        desk.store.tag("production", each.digest)
    registry.versions[made[1].digest] = "2"
    assert desk.rarefy("rollback", "production", "--mlflow", "reviews").code == 0
    assert (desk.production, registry.aliases) == (
        made[1].digest,
        [("reviews", "production", "2")],
    )
    said = desk.rarefy("rollback", "production", "--mlflow", "reviews")  # of it, no version is
    assert said.code == 2
    assert (desk.production, len(registry.aliases)) == (made[1].digest, 1)
