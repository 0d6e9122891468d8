"""A bundle that a worker made is promoted from elsewhere, on the verdict that its run left."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rarefy.pipeline.release import verdicts
from rarefy.pipeline.store.remote import artifacts
from rarefy.pipeline.store.store import Store
from tests.desk import Desk


class Shared:
    """A store that a worker's run has published to, and a machine that has neither."""

    def __init__(self, desk: Desk, folder: Path) -> None:
        self.desk, self.folder, self.home = desk, folder / "shared", folder / "elsewhere"
        self.url = self.folder.as_uri()
        artifacts.push(desk.store, desk.digest, self.url)

    def publish(
        self, name: str = "20260101-030000-0123abcd", recipe: str = "tiny", number: int = 0
    ) -> Path:
        """Leave the desk's run there as it is now, with its verdict."""
        place = self.folder / "runs" / recipe / name
        place.mkdir(parents=True)
        if number:
            (place / "order.txt").write_text(str(number))
        for file in ("run.json", "answers.safetensors", "verdict.json"):
            shutil.copyfile(self.desk.run / file, place / file)
        return place

    def promote(self, *more: str) -> Any:
        wanted = f"{self.url}#{self.desk.digest[:12]}"
        return self.desk.rarefy("promote", wanted, *more, "--home", self.home)


@pytest.fixture
def shared(desk: Desk, tmp_path: Path) -> Shared:
    return Shared(desk, tmp_path)


def at(time: str) -> Callable[[dict[str, Any]], None]:
    """Let a run have measured and ended then."""
    return lambda values: values.update(created=time, measured_at=time)


def test_a_worker_s_bundle_is_promoted_on_the_verdict_beside_it(shared: Shared) -> None:
    place = shared.publish()
    said = shared.promote("production", "--store", shared.url, "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["run"] == place.as_uri()
    for store in (Store(shared.home / "store"), Store(shared.folder)):
        assert store.tags() == {"production": shared.desk.digest}
        assert store.verify(shared.desk.digest) == []
    assert not (shared.home / "runs").exists(), "what was fetched to decide does not stay"


def test_the_newest_of_its_verdicts_counts(shared: Shared) -> None:
    shared.desk.record(at("2026-01-01T03:00:00+00:00"))
    shared.publish("20260101-030000-0123abcd")
    shared.desk.verdict("fail")
    shared.desk.record(at("2026-01-02T03:00:00+00:00"))
    missed = shared.publish("20260102-030000-0123abcd")
    said = shared.promote("production", "--json")
    assert said.code == 3
    assert json.loads(said.out)["run"] == missed.as_uri()
    assert Store(shared.home / "store").tags() == {}
    # A later pass on the first measurements, from the cache, is as old as they are.
    shared.desk.verdict("pass")
    shared.desk.record(at("2026-01-01T03:00:00+00:00"))
    shared.desk.record(lambda values: values.update(created="2026-01-03T03:00:00+00:00"))
    shared.publish("20260103-030000-0123abcd")
    said = shared.promote()
    assert said.code == 3
    assert "its newest verdict is fail" in said.err
    shared.desk.record(at("2026-01-04T03:00:00+00:00"))
    shared.publish("20260104-030000-0123abcd")
    assert shared.promote().code == 0


def test_a_pass_of_a_worker_whose_clock_was_ahead_ends_with_the_next_miss(shared: Shared) -> None:
    """Another worker's miss was published after it, and then a pass, both by the right clock."""
    shared.desk.record(at("2999-01-01T03:00:00+00:00"))
    shared.publish("29990101-030000-0123abcd", number=1)
    assert shared.promote().code == 0
    shared.desk.verdict("fail")
    shared.desk.record(at("2026-01-02T03:00:00+00:00"))
    shared.publish("20260102-030000-0123abcd", number=2)
    assert shared.promote().code == 3
    shared.desk.verdict("pass")
    shared.desk.record(at("2026-01-03T03:00:00+00:00"))
    last = shared.publish("20260103-030000-0123abcd", number=3)
    said = shared.promote("--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["run"] == last.as_uri()


def test_numbers_of_a_store_rise(shared: Shared) -> None:
    remote = artifacts.Remote.open(shared.url)
    assert [remote.next_number() for _ in range(3)] == [1, 2, 3]


def test_a_verdict_that_the_record_does_not_support_is_not_believed(shared: Shared) -> None:
    """Beside it lies the record of a run that measured another bundle."""
    shared.desk.record(
        lambda values: values["measurements"]["models"]["candidate"].update(digest="0" * 64)
    )
    shared.publish()
    said = shared.promote()
    assert said.code == 4
    assert "no run has a verdict on this bundle" in said.err


@pytest.mark.parametrize("missing", ["run.json", "answers.safetensors"])
def test_a_record_that_cannot_be_read_may_be_a_miss(shared: Shared, missing: str) -> None:
    shared.publish("20260101-030000-0123abcd")
    broken = shared.publish("20260102-030000-0123abcd")
    (broken / missing).unlink()
    said = shared.promote()
    assert said.code == 4
    assert f"{broken.as_uri()}: its verdict on {shared.desk.digest[:12]} cannot be read" in said.err
    shutil.rmtree(broken)
    assert shared.promote().code == 0


def test_a_miss_counts_though_its_verdict_was_cut_off(shared: Shared) -> None:
    shared.publish("20260101-030000-0123abcd")
    shared.desk.verdict("fail")
    cut = shared.publish("20260102-030000-0123abcd") / "verdict.json"
    cut.write_bytes(cut.read_bytes()[:9])
    assert shared.promote().code == 3


def test_a_run_that_was_copied_for_another_recipe_is_one_more(shared: Shared) -> None:
    shared.publish(recipe="tiny-old")
    place = shared.publish()
    said = shared.promote("--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["run"] in (
        place.as_uri(),
        place.as_uri().replace("/tiny/", "/tiny-old/"),
    )


def test_a_miss_here_is_excused_by_a_later_comparison_there(desk: Desk, shared: Shared) -> None:
    from rarefy.pipeline.run import folder
    from rarefy.pipeline.verdict.history import FILE, History

    def against(values: dict[str, Any]) -> None:
        values["verdict"]["budgets"][0].update(against="production")

    desk.record(against)
    desk.verdict("fail")
    desk.record(at("2026-01-01T03:00:00+00:00"))
    shared.home.mkdir()
    History(shared.home / FILE).add(folder.read(desk.run))
    desk.verdict("pass")
    desk.record(at("2026-01-02T03:00:00+00:00"))
    shared.publish("20260102-030000-0123abcd")
    said = shared.promote()
    assert said.code == 0, said.err


def test_what_else_lies_among_the_runs_is_passed_over(shared: Shared) -> None:
    shared.publish()
    runs = shared.folder / "runs"
    (runs / "index.html").write_text("<p>Reports</p>")
    (runs / "tiny" / "verdict.json").write_text("{}")
    unfinished, other, cut = (runs / "tiny" / name for name in ("2027-a", "2027-b", "2027-c"))
    for folder in (unfinished, other, cut):
        folder.mkdir()
    (unfinished / "run.json").write_text("{}")
    (other / "verdict.json").write_text(json.dumps({"bundle": "0" * 64}))
    (cut / "verdict.json").write_text("{")
    assert shared.promote().code == 0


def test_what_this_machine_found_of_it_counts_as_well(desk: Desk, shared: Shared) -> None:
    """Here it was measured later, and missed its budgets."""
    from rarefy.pipeline.run import folder
    from rarefy.pipeline.verdict.history import FILE, History

    desk.record(at("2026-01-01T03:00:00+00:00"))
    shared.publish()
    desk.verdict("fail")
    desk.record(at("2026-01-02T03:00:00+00:00"))
    shared.home.mkdir()
    History(shared.home / FILE).add(folder.read(desk.run))
    said = shared.promote()
    assert said.code == 3
    assert "its newest verdict is fail" in said.err


def test_only_a_store_that_runs_can_publish_to_is_searched(tmp_path: Path) -> None:
    for reference in ("production", "https://127.0.0.1:9/store#production"):
        assert not verdicts.fetch(reference, "0" * 64, tmp_path).runs.exists()
