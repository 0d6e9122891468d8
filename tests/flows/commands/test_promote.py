"""A tag moves on a passing verdict of that very bundle, and goes back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.store.store import Store
from pipeline.verdict.history import History
from tests.pipeline.report.verdicts import asked, finished
from tests.pipeline.store.test_store import damage, publish
from tests.project import Project, Said, bundle_digest


@dataclass(frozen=True)
class Desk:
    """A copy of a finished run, to be promoted; its record can be changed."""

    home: Path
    digest: str
    rarefy: Callable[..., Said]

    @property
    def store(self) -> Store:
        return Store(self.home / "store")

    @property
    def run(self) -> Path:
        return self.home / "runs" / "tiny"

    @property
    def production(self) -> str | None:
        return self.store.tags().get("production")

    def record(self, change: Callable[[dict[str, Any]], Any]) -> None:
        path = self.run / "run.json"
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))

    def verdict(self, outcome: str, **changes: Any) -> None:
        """Let the verdict, and its first budget, have come out so."""
        self.record(lambda values: values["verdict"].update({"outcome": outcome} | changes))
        self.record(lambda values: values["verdict"]["budgets"][0].update({"outcome": outcome}))


@pytest.fixture
def desk(
    made: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rarefy: Callable[..., Said]
) -> Desk:
    home = tmp_path / "home"
    shutil.copytree(made.home, home)
    (home / "history.sqlite").unlink(missing_ok=True)  # others have judged this bundle
    monkeypatch.setenv("RAREFY_HOME", str(home))
    return Desk(home, bundle_digest(made), rarefy)


def test_a_run_that_passed_is_promoted_by_each_of_its_names(desk: Desk) -> None:
    said = desk.rarefy("promote", "tiny")
    assert (said.code, said.out) == (0, f"production -> {desk.digest[:12]}\n")
    again = desk.rarefy("promote", "tiny")
    assert (again.code, again.out) == (0, f"production is {desk.digest[:12]} already\n")
    for number, name in enumerate((desk.run, desk.run / "bundle", desk.digest[:9], "production")):
        assert desk.rarefy("promote", name, f"tag-{number}").code == 0
        assert desk.store.tags()[f"tag-{number}"] == desk.digest
    (move,) = desk.store.find_tag("production").moves
    assert (move.why, move.run, move.verdict) == ("promote", "tiny", "pass")


def test_json_says_what_moved(desk: Desk) -> None:
    said = json.loads(desk.rarefy("promote", "tiny", "best", "--json").out)
    assert said == {
        "tag": "best",
        "digest": desk.digest,
        "run": str(desk.run),
        "moved": True,
        "from": None,
        "pushed": None,
        "exit_code": 0,
    }


def test_a_missed_budget_is_named_and_nothing_moves(desk: Desk) -> None:
    desk.verdict("fail")
    said = desk.rarefy("promote", "tiny")
    assert said.code == 3
    assert said.err.count("missed: ") == 1
    assert "'production' stays where it is" in said.err
    assert desk.production is None
    shown = json.loads(desk.rarefy("promote", "tiny", "--json").out)
    assert (shown["moved"], shown["exit_code"], len(shown["missed"])) == (False, 3, 1)


@pytest.mark.parametrize(
    ("outcome", "changes", "words"),
    [
        ("inconclusive", {}, "the verdict is inconclusive: accuracy"),
        ("pass", {"evidence": ["cpu: throttled half way"]}, "cpu: throttled half way"),
    ],
)
def test_what_is_no_pass_is_not_promoted(
    desk: Desk, outcome: str, changes: dict[str, Any], words: str
) -> None:
    desk.verdict(outcome, **changes)
    said = desk.rarefy("promote", "tiny")
    assert said.code == 4
    assert words in said.err
    by_hand = f"`rarefy artifact tag production {desk.digest[:12]}` moves a tag without a verdict"
    assert by_hand in said.err
    assert desk.production is None
    assert desk.rarefy("artifact", "tag", "production", desk.digest[:12]).code == 0
    assert desk.production == desk.digest


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda values: values.update(verdict=None), "no run here has a verdict on this bundle"),
        (lambda values: values["verdict"].update(budgets=[]), "no budget was judged"),
        (
            lambda values: values["measurements"]["models"]["candidate"].update(digest="0" * 64),
            "no run here has a verdict on this bundle",
        ),
        (lambda values: values.pop("ledger"), "run.json cannot be read"),
    ],
    ids=["no verdict", "no budgets", "another bundle's", "damaged record"],
)
def test_without_a_verdict_on_this_bundle_nothing_moves(desk: Desk, change, words) -> None:
    desk.record(change)
    said = desk.rarefy("promote", "tiny")
    assert said.code == 4
    assert words in said.err
    assert desk.production is None


@pytest.mark.parametrize(("outcome", "code"), [("fail", 3), ("inconclusive", 4), ("pass", 0)])
def test_a_newer_verdict_on_the_same_bundle_counts(desk: Desk, outcome: str, code: int) -> None:
    """The run passed; `rarefy ci` beside production, or `rarefy validate`, said otherwise since."""
    budgets = [asked("size", "max", 1.0, 2.0)] if outcome == "fail" else []
    newer = finished(
        0, budgets=budgets, outcome=outcome, command="rarefy ci tiny.yaml", name="tiny"
    )
    newer.measurements.models["candidate"].digest = desk.digest
    newer = newer.model_copy(update={"created": "2999-01-01T00:00:00+00:00"})
    assert History(desk.home / "history.sqlite").add(newer)
    said = desk.rarefy("promote", "tiny")
    assert said.code == code
    assert (desk.production == desk.digest) == (code == 0)
    if code:
        assert f"the newest verdict on it is {outcome} (rarefy ci tiny.yaml, 2999" in said.err


def test_an_older_verdict_does_not(desk: Desk) -> None:
    older = finished(0, outcome="fail", name="tiny")
    older.measurements.models["candidate"].digest = desk.digest
    assert History(desk.home / "history.sqlite").add(older)
    assert desk.rarefy("promote", "tiny").code == 0


def test_a_baseline_that_moved_since_is_said(desk: Desk) -> None:
    other = publish(desk.store, "other", "1" * 64)
    third = publish(desk.store, "third", "2" * 64)
    desk.store.tag("production", other.digest)
    desk.record(
        lambda values: values["measurements"].update(baselines={"production": other.digest})
    )
    desk.store.tag("production", third.digest)
    said = desk.rarefy("promote", "tiny")
    assert said.code == 4
    told = f"measured against {other.short}, but production is {third.short} now: run again"
    assert told in said.err
    assert desk.production == third.digest
    desk.store.tag("production", other.digest)
    assert desk.rarefy("promote", "tiny").out.endswith(f"(was {other.short})\n")


def test_a_first_release_that_is_no_longer_the_first_is_refused(desk: Desk) -> None:
    desk.record(lambda values: values.update(absent=["production"]))
    desk.store.tag("production", publish(desk.store, "other").digest)
    said = desk.rarefy("promote", "tiny")
    assert said.code == 4
    assert "measured against nothing, but production is" in said.err
    assert desk.rarefy("promote", "tiny", "staging").code == 0


def test_damage_ends_with_6(desk: Desk) -> None:
    damage(desk.store.open(desk.digest).directory / "model.onnx")
    said = desk.rarefy("promote", "tiny")
    assert said.code == 6
    assert "model.onnx: its bytes are not those" in said.err
    assert desk.production is None


def test_a_run_s_folder_from_elsewhere_is_taken_over_if_it_is_whole(
    desk: Desk, tmp_path: Path
) -> None:
    folder, home = shutil.copytree(desk.run, tmp_path / "download"), tmp_path / "elsewhere"
    assert desk.rarefy("promote", folder, "--home", home).code == 0
    assert Store(home / "store").verify(desk.digest) == []
    damage(folder / "bundle" / "model.onnx")
    said = desk.rarefy("promote", folder, "--home", tmp_path / "third")
    assert said.code == 6
    assert Store(tmp_path / "third" / "store").tags() == {}


def test_promote_to_a_remote_moves_both_tags_or_none(desk: Desk, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/shared"
    said = desk.rarefy("promote", "tiny", "--to", url)
    assert said.out.splitlines()[-1] == f"{url}#production -> {desk.digest[:12]}"
    there = Store(tmp_path / "shared")
    assert there.tags() == {"production": desk.digest} == desk.store.tags()
    assert there.find_tag("production").moves[0].why == "promote"
    # What it was measured with there has moved on.
    other = publish(there, "other").digest
    there.tag("production", other)
    desk.store.untag("production")
    measured = {f"{url}#production": desk.digest}
    desk.record(lambda values: values["measurements"].update(baselines=measured))
    refused = desk.rarefy("promote", "tiny", "--to", url)
    assert refused.code == 4
    assert there.tags()["production"] == other
    assert desk.production is None
    nowhere = desk.rarefy("promote", "tiny", "--to", f"file://{tmp_path}/not/mounted")
    assert nowhere.code == 2
    assert desk.production is None


def test_a_remote_spelt_otherwise_is_the_same_place(desk: Desk, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/shared"
    there = Store(tmp_path / "shared")
    there.tag("production", publish(there, "other").digest)
    desk.record(lambda v: v["measurements"].update(baselines={f"{url}#production": desk.digest}))
    for spelt in (f"{url}/", f"{tmp_path}/shared", f"local://{tmp_path}/shared"):
        refused = desk.rarefy("promote", "tiny", "--to", spelt)
        assert refused.code == 4
        assert "is " in refused.err
        assert "now: run again" in refused.err


def test_a_first_release_whose_budgets_wait_for_it_founds_that_tag_only(
    desk: Desk, tmp_path: Path
) -> None:
    url = f"file://{tmp_path}/shared"
    desk.record(lambda values: values["verdict"].update(budgets=[]))
    assert "no budget was judged" in desk.rarefy("promote", "tiny").err
    desk.record(lambda values: values.update(absent=[f"{url}#production"]))
    elsewhere = desk.rarefy("promote", "tiny", "staging", "--to", url)
    assert elsewhere.code == 4
    assert "no budget was judged" in elsewhere.err
    assert desk.rarefy("promote", "tiny", "--to", f"{url}/").code == 0
    assert Store(tmp_path / "shared").tags() == {"production": desk.digest}
    desk.store.untag("production")
    Store(tmp_path / "shared").tag("production", publish(Store(tmp_path / "shared"), "b").digest)
    again = desk.rarefy("promote", "tiny", "--to", url)
    assert again.code == 4
    assert "measured against nothing" in again.err


@pytest.mark.parametrize("tag", ["Production", "../x", "abcdef01"])
def test_a_name_that_no_tag_may_have(desk: Desk, tag: str) -> None:
    assert desk.rarefy("promote", "tiny", tag).code == 2


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


def test_rollback_to_what_it_cannot(desk: Desk) -> None:
    one, two = (publish(desk.store, str(n), f"{n}" * 64) for n in range(2))
    missing = desk.rarefy("rollback", "production")
    assert missing.code == 2
    assert "production: no tag in" in missing.err
    for each in (one, two):
        desk.store.tag("production", each.digest)
    never = desk.rarefy("rollback", "production", "--to", desk.digest)
    assert never.code == 2
    assert f"production never was there; it was at {one.short}, {two.short}" in never.err
    assert desk.rarefy("rollback", "production", "--to", two.short).code == 2
    damage(one.directory / "a.txt")
    damaged = desk.rarefy("rollback", "production")
    assert damaged.code == 6
    assert "a.txt: its bytes are not those" in damaged.err
    shutil.rmtree(one.directory)
    gone = desk.rarefy("rollback", "production")
    assert gone.code == 6
    assert "are not in this store any more" in gone.err
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
    assert f"a.txt of {made[0].short} is damaged or gone there" in damaged.err
    shutil.rmtree(made[0].directory)
    assert desk.rarefy("rollback", f"{url}#production").code == 6
    assert there.tags() == {"production": made[1].digest}


def test_push_and_pull_from_the_command_line(desk: Desk, tmp_path: Path) -> None:
    url, home = f"file://{tmp_path}/shared", tmp_path / "elsewhere"
    pushed = desk.rarefy("artifact", "push", desk.digest[:8], url, "--tag", "production", "--json")
    sent = json.loads(pushed.out)
    assert (sent["digest"], sent["tag"]) == (desk.digest, "production")
    again = json.loads(desk.rarefy("artifact", "push", desk.digest, url, "--json").out)
    assert (sent["bytes"] > 10_000, again["bytes"]) == (True, 0)
    text = "a fine film"
    here = desk.rarefy("predict", desk.digest, text).out
    there = desk.rarefy("predict", f"{url}#production", text, "--home", home)
    assert (there.code, there.out) == (0, here)
    address = f"{url}#{desk.digest[:8]}"
    pulled = desk.rarefy("artifact", "pull", address, "--tag", "production", "--home", home)
    assert pulled.out == f"{desk.digest} (bundle), production\n"
    assert Store(home / "store").tags() == {"production": desk.digest}
    for arguments, words in {
        ("pull", url): "write URL#TAG",
        ("pull", f"{url}#nosuch"): "no tag 'nosuch'",
        ("push", "nosuch", url): "no artifact and no tag",
        ("push", desk.digest, f"file://{tmp_path}/not/there"): "no such bucket or folder",
    }.items():
        said = desk.rarefy("artifact", *arguments)
        assert said.code == 2
        assert words in said.err
