"""The rules of a release: the bundle passed against what the tag points at now."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rarefy.pipeline.release.promotion import promote
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.store.remote import artifacts
from rarefy.pipeline.store.store import Store
from rarefy.pipeline.terms.errors import EvidenceError
from tests.desk import Desk
from tests.pipeline.store.artifacts import damage, publish


def _only_the_linear_model(verdict: dict[str, Any]) -> None:
    verdict["budgets"] = [verdict["budgets"][0] | {"against": "linear"}]


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
        (lambda values: values.update(verdict=None), "no run has a verdict on this bundle"),
        (lambda values: values["verdict"].update(budgets=[]), "no budget was judged"),
        (lambda values: _only_the_linear_model(values["verdict"]), "no budget was judged"),
        (
            lambda values: values["measurements"]["models"]["candidate"].update(digest="0" * 64),
            "no run has a verdict on this bundle",
        ),
        (lambda values: values.pop("ledger"), "run.json cannot be read"),
    ],
    ids=[
        "no verdict",
        "no budgets",
        "the linear model alone",
        "another bundle's",
        "damaged record",
    ],
)
def test_without_a_verdict_on_this_bundle_nothing_moves(desk: Desk, change, words) -> None:
    desk.record(change)
    said = desk.rarefy("promote", "tiny")
    assert said.code == 4
    assert words in said.err
    assert desk.production is None
    if "no run has" in words:
        assert f"has left one in a store, promote URL#{desk.digest[:12]};" in said.err


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
    told = f"measured against {other.short}, but production is {third.short} now; run again"
    assert told in said.err
    assert desk.production == third.digest
    desk.store.tag("production", other.digest)
    assert desk.rarefy("promote", "tiny").out.endswith(f"(was {other.short})\n")


def test_a_tag_does_not_move_from_one_task_to_another(desk: Desk) -> None:
    other = publish(desk.store, "other", signature={"task": "regression"})
    desk.store.tag("production", other.digest)
    said = desk.rarefy("promote", "tiny")
    assert said.code == 4
    told = "this bundle is for text-classification, but 'production' points at one for regression"
    assert f"{told}; promote it to another tag" in " ".join(said.err.split())
    assert desk.production == other.digest
    assert desk.rarefy("promote", "tiny", "staging").code == 0
    same = publish(desk.store, "same", "1" * 64, signature={"task": "text-classification"})
    desk.store.tag("production", same.digest)
    assert desk.rarefy("promote", "tiny").code == 0


def test_nor_does_a_remote_s_tag(desk: Desk, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/shared"
    other = publish(desk.store, "other", signature={"task": "regression"}).digest
    artifacts.push(desk.store, other, url, "production")
    said = desk.rarefy("promote", "tiny", "--store", url)
    assert said.code == 4
    assert "production' points at one for regression" in " ".join(said.err.split())
    assert (artifacts.find_tag(url, "production").digest, desk.production) == (other, None)
    folder, home = shutil.copytree(desk.run, tmp_path / "download"), tmp_path / "elsewhere"
    said = desk.rarefy(
        "promote", folder, "--home", home, "--store", url
    )  # which has not that bundle
    assert said.code == 4
    assert "production' points at one for regression" in " ".join(said.err.split())


def test_a_tag_that_moves_while_a_release_is_decided_stays_where_it_was_put(desk: Desk) -> None:
    home, other = Home(desk.home), publish(desk.store, "other").digest
    with pytest.raises(EvidenceError, match="was moved in the meantime"):
        promote("tiny", "production", home, ready=lambda _: desk.store.tag("production", other))
    assert desk.production == other


def test_a_first_release_that_is_no_longer_the_first_is_refused(desk: Desk) -> None:
    desk.record(lambda values: values.update(absent=["production"]))
    desk.store.tag("production", publish(desk.store, "other").digest)
    said = desk.rarefy("promote", "tiny")
    assert said.code == 4
    assert "measured against nothing, but production is" in said.err
    assert desk.rarefy("promote", "tiny", "staging").code == 0


def test_a_run_s_folder_from_elsewhere_is_taken_over_if_it_is_whole(
    desk: Desk, tmp_path: Path
) -> None:
    folder, home = shutil.copytree(desk.run, tmp_path / "download"), tmp_path / "elsewhere"
    assert desk.rarefy("promote", folder, "--home", home).code == 0
    assert Store(home / "store").verify(desk.digest) == []
    damage(folder / "bundle" / "model.onnx")
    said = desk.rarefy("promote", folder, "--home", tmp_path / "third")
    assert said.code == 6
    (folder / "bundle" / "tokenizer.json").unlink()
    said = desk.rarefy("promote", folder, "--home", tmp_path / "third")
    assert said.code == 6
    assert Store(tmp_path / "third" / "store").tags() == {}


def test_a_run_that_is_being_replaced_meanwhile_is_passed_over(desk: Desk) -> None:
    record = desk.home / "runs" / "other" / "run.json"
    record.parent.mkdir()
    record.symlink_to("removed")  # listed, and gone when it is looked at
    assert desk.rarefy("promote", desk.digest, "production").code == 0


def test_promote_to_a_remote_moves_both_tags_or_none(desk: Desk, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/shared"
    said = desk.rarefy("promote", "tiny", "--store", url)
    assert said.out.splitlines()[-1] == f"{url}#production -> {desk.digest[:12]}"
    there = Store(tmp_path / "shared")
    assert there.tags() == {"production": desk.digest} == desk.store.tags()
    assert there.find_tag("production").moves[0].why == "promote"
    # The tag that it was compared with has moved since.
    other = publish(there, "other").digest
    there.tag("production", other)
    desk.store.untag("production")
    measured = {f"{url}#production": desk.digest}
    desk.record(lambda values: values["measurements"].update(baselines=measured))
    refused = desk.rarefy("promote", "tiny", "--store", url)
    assert refused.code == 4
    assert there.tags()["production"] == other
    assert desk.production is None
    for nowhere in ("not/mounted", "shared#production"):
        said = desk.rarefy("promote", "tiny", "other", "--store", f"file://{tmp_path}/{nowhere}")
        assert said.code == 2
        assert set(desk.store.tags()) <= {"tiny"}
    assert not (tmp_path / "shared#production").exists()


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any]) -> None:
    """Let another process act between the move of the local tag and that of the remote's."""
    real = artifacts.move

    def move(*arguments: Any, **named: Any) -> None:
        act()
        real(*arguments, **named)

    monkeypatch.setattr(artifacts, "move", move)


def test_a_promotion_that_the_remote_refuses_moves_nothing_here(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, there = f"file://{tmp_path}/shared", Store(tmp_path / "shared")
    other = publish(there, "other").digest
    meanwhile(monkeypatch, lambda: there.tag("production", other))
    said = desk.rarefy("promote", "tiny", "--store", url)
    assert said.code == 4
    assert "was moved in the meantime" in said.err
    assert there.tags() == {"production": other}
    assert desk.store.find_tag("production") is None


def test_the_history_here_is_as_before_a_promotion_that_the_remote_refused(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, there = f"file://{tmp_path}/shared", Store(tmp_path / "shared")
    before = desk.store.tag("production", publish(desk.store, "before").digest)
    other = publish(there, "other").digest
    meanwhile(monkeypatch, lambda: there.tag("production", other))
    assert desk.rarefy("promote", "tiny", "--store", url).code == 4
    assert desk.store.find_tag("production") == before


def test_moves_away_and_back_meanwhile_stay_when_the_remote_refuses(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, there = f"file://{tmp_path}/shared", Store(tmp_path / "shared")
    one, two = publish(desk.store, "one").digest, publish(desk.store, "two").digest
    other, real = publish(there, "other").digest, artifacts.push
    desk.store.tag("production", one)
    seen = []

    def push(*arguments: Any, **named: Any) -> int:
        desk.store.tag("production", two)
        seen.append(desk.store.tag("production", one))
        return real(*arguments, **named)

    monkeypatch.setattr(artifacts, "push", push)
    meanwhile(monkeypatch, lambda: there.tag("production", other))
    assert desk.rarefy("promote", "tiny", "--store", url).code == 4
    assert desk.store.find_tag("production") == seen[0]


def test_a_move_that_cannot_be_taken_back_is_said(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, there = f"file://{tmp_path}/shared", Store(tmp_path / "shared")
    mine, other = publish(desk.store, "mine").digest, publish(there, "other").digest
    meanwhile(
        monkeypatch,
        lambda: (there.tag("production", other), desk.store.tag("production", mine)),
    )
    said = desk.rarefy("promote", "tiny", "--store", url)
    assert said.code == 4
    assert f"had moved to {desk.digest[:12]} and was then moved again" in said.err
    assert desk.production == mine


def test_a_local_tag_that_moved_meanwhile_leaves_the_remote_s_alone(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, there = f"file://{tmp_path}/shared", Store(tmp_path / "shared")
    mine, real = publish(desk.store, "mine").digest, artifacts.push

    def push(*arguments: Any, **named: Any) -> int:
        desk.store.tag("production", mine)
        return real(*arguments, **named)

    monkeypatch.setattr(artifacts, "push", push)
    assert desk.rarefy("promote", "tiny", "--store", url).code == 4
    assert there.tags() == {}
    assert desk.production == mine


def test_a_promotion_that_was_killed_half_way_is_finished_by_the_next(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, there = f"file://{tmp_path}/shared", Store(tmp_path / "shared")
    desk.store.tag("production", desk.digest)  # here it was killed
    assert desk.rarefy("promote", "tiny", "--store", url).code == 0
    assert there.tags() == {"production": desk.digest} == desk.store.tags()


def test_a_remote_spelt_otherwise_is_the_same_place(desk: Desk, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/shared"
    there = Store(tmp_path / "shared")
    there.tag("production", publish(there, "other").digest)
    desk.record(lambda v: v["measurements"].update(baselines={f"{url}#production": desk.digest}))
    (tmp_path / "link").symlink_to(tmp_path / "shared")
    spellings = (f"{url}/", f"{tmp_path}/shared", f"local://{tmp_path}/shared")
    for spelt in (*spellings, f"{tmp_path}/shared/../shared", f"{tmp_path}/link"):
        refused = desk.rarefy("promote", "tiny", "--store", spelt)
        assert refused.code == 4
        assert "is " in refused.err
        assert "now; run again" in refused.err


def test_a_first_release_whose_budgets_wait_for_it_founds_that_tag_only(
    desk: Desk, tmp_path: Path
) -> None:
    url = f"file://{tmp_path}/shared"
    desk.record(lambda values: values["verdict"].update(budgets=[]))
    assert "no budget was judged" in desk.rarefy("promote", "tiny").err
    desk.record(lambda values: values.update(absent=[f"{url}#production"]))
    elsewhere = desk.rarefy("promote", "tiny", "staging", "--store", url)
    assert elsewhere.code == 4
    assert "no budget was judged" in elsewhere.err
    assert desk.rarefy("promote", "tiny", "--store", f"{url}/").code == 0
    assert Store(tmp_path / "shared").tags() == {"production": desk.digest}
    desk.store.untag("production")
    Store(tmp_path / "shared").tag("production", publish(Store(tmp_path / "shared"), "b").digest)
    again = desk.rarefy("promote", "tiny", "--store", url)
    assert again.code == 4
    assert "measured against nothing" in again.err
