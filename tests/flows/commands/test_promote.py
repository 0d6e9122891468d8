"""A tag moves only with a passing verdict on that bundle, and can be rolled back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.desk import Desk
from tests.pipeline.store.artifacts import damage, publish
from tests.registry import Registry


def test_a_run_that_passed_is_promoted_by_each_of_its_names(desk: Desk) -> None:
    said = desk.rarefy("promote", "tiny")
    assert (said.code, said.out) == (0, f"production -> {desk.digest[:12]}\n")
    again = desk.rarefy("promote", "tiny")
    assert (again.code, again.out) == (0, f"production already points at {desk.digest[:12]}\n")
    for number, name in enumerate((desk.run, desk.run / "bundle", desk.digest[:9], "production")):
        assert desk.rarefy("promote", name, f"tag-{number}").code == 0
        assert desk.store.tags()[f"tag-{number}"] == desk.digest
    (move,) = desk.store.find_tag("production").moves
    assert (move.why, move.run, move.verdict) == ("promote", "tiny", "pass")


def test_a_folder_of_the_run_s_name_is_not_promoted_instead(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(desk.run, tmp_path / "tiny")
    desk.verdict("fail")
    monkeypatch.chdir(tmp_path)
    assert desk.rarefy("promote", "tiny").code == 3
    assert desk.production is None
    said = desk.rarefy("promote", "./tiny", "--json")
    assert json.loads(said.out)["run"] == "tiny"


@pytest.mark.parametrize(("below", "reference"), [("", "."), ("below", "..")])
def test_a_bundle_is_found_from_inside_its_folder(
    desk: Desk, below: str, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = desk.run / "bundle" / below
    place.mkdir(exist_ok=True)
    monkeypatch.chdir(place)
    assert desk.rarefy("promote", reference).code == 0
    desk.verdict("fail")
    assert desk.rarefy("promote", reference, "best").code == 3


def test_json_says_what_moved(desk: Desk) -> None:
    said = json.loads(desk.rarefy("promote", "tiny", "best", "--json").out)
    assert said == {
        "tag": "best",
        "digest": desk.digest,
        "run": str(desk.run),
        "moved": True,
        "from": None,
        "pushed": None,
        "warned": [],
        "exit_code": 0,
    }


def test_a_missed_budget_is_named_and_nothing_moves(desk: Desk) -> None:
    desk.verdict("fail")
    said = desk.rarefy("promote", "tiny")
    assert said.code == 3
    assert said.err.count("missed: ") == 1
    assert "'production' was not moved" in said.err
    assert desk.production is None
    shown = json.loads(desk.rarefy("promote", "tiny", "--json").out)
    assert (shown["moved"], shown["exit_code"], len(shown["missed"])) == (False, 3, 1)


def test_damage_ends_with_6(desk: Desk) -> None:
    damage(desk.store.open(desk.digest).directory / "model.onnx")
    said = desk.rarefy("promote", "tiny")
    assert said.code == 6
    assert "model.onnx: the content has changed" in said.err
    assert desk.production is None


@pytest.mark.parametrize("tag", ["Production", "../x", "abcdef01"])
def test_a_name_that_no_tag_may_have(desk: Desk, tag: str) -> None:
    assert desk.rarefy("promote", "tiny", tag).code == 2


def test_an_alias_that_cannot_follow_keeps_the_tag(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rarefy.exporters.forms import mlflow

    asked: list[str] = []
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(mlflow, "check_installed", lambda: asked.append("installed"))
    said = desk.rarefy("promote", "tiny", "--mlflow", "reviews")
    assert said.code == 2
    assert "set MLFLOW_TRACKING_URI" in said.err
    address = ("--tracking-uri", "http://me:secret@127.0.0.1:1")
    said = desk.rarefy("promote", "tiny", "--mlflow", "reviews", *address)
    assert said.code == 2
    assert "secret" not in said.err
    assert asked
    assert desk.production is None


def test_the_alias_follows_the_tag(desk: Desk, registry: Registry) -> None:
    registry.versions[desk.digest] = "3"
    said = desk.rarefy("promote", "tiny", "--mlflow", "reviews")
    assert said.code == 0
    assert registry.aliases == [("reviews", "production", "3")]
    assert desk.production == desk.digest


def test_a_bundle_that_is_not_registered_keeps_tag_and_alias(
    desk: Desk, registry: Registry
) -> None:
    said = desk.rarefy("promote", "tiny", "--mlflow", "reviews")
    assert said.code == 2
    assert "register it with `rarefy bundle" in said.err
    assert (desk.production, registry.aliases) == (None, [])


def test_an_alias_that_fails_after_the_tag_has_moved_is_said(
    desk: Desk, registry: Registry
) -> None:
    registry.versions[desk.digest], registry.broken = "3", True
    said = desk.rarefy("promote", "tiny", "--mlflow", "reviews")
    assert said.code == 5
    assert "the tag has moved, but the alias 'production' of 'reviews' has not" in said.err
    assert desk.production == desk.digest
    registry.broken = False  # a second time mends it
    assert desk.rarefy("promote", "tiny", "--mlflow", "reviews").code == 0
    assert registry.aliases == [("reviews", "production", "3")]


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
    assert desk.rarefy("rollback", "production", "--artifact", made[2].short).code == 0
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


def test_a_pass_that_only_warns_of_a_budget_says_so(desk: Desk) -> None:
    unmet = {"outcome": "fail", "level": "warn"}
    desk.record(lambda values: values["verdict"]["budgets"][0].update(unmet))
    said = desk.rarefy("promote", "tiny")
    assert said.code == 0
    assert "warning: the verdict is a pass without these: accuracy" in said.err
