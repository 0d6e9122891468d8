"""Claims of benchmarks hold by their intervals, and records know what has changed since."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import record, stale
from rarefy.pipeline.terms.interval import Interval

ROOT = Path(stale.__file__).parents[1]


@pytest.mark.parametrize(
    ("interval", "holds"),
    [
        (Interval(1.2, 1.1, 1.3), True),
        (Interval(1.2, 0.9, 1.5), None),
        (Interval(0.9, 0.8, 0.95), False),
    ],
)
def test_a_claim_holds_by_its_interval(interval: Interval, holds: bool | None) -> None:
    assert record.is_at_least(interval, 1.0) is holds
    opposite = {True: False, False: True, None: None}
    assert record.is_at_most(interval, 1.0) is opposite[holds]


def test_one_undecided_part_leaves_the_whole_undecided() -> None:
    assert record.worst([True, None, True]) is None
    assert record.worst([None, False]) is False
    assert record.worst([True, True]) is True


def test_a_mean_of_seeds_is_no_surer_than_one_of_them() -> None:
    mean = record.mean([Interval(1.0, 0.9, 1.1), Interval(2.0, 1.8, 2.2)])
    assert mean == pytest.approx((1.5, 1.35, 1.65))


def test_the_files_that_a_benchmark_imports_are_its_subject() -> None:
    power = stale.imported(ROOT / "benchmarks/power.py")
    assert ROOT / "pipeline/measure/latency/compare.py" in power
    assert ROOT / "stages/prune/stage.py" not in power
    demo = stale.imported(ROOT / "benchmarks/demo.py")  # runs a recipe, by the command line
    assert ROOT / "stages/prune/stage.py" in demo


def test_every_record_has_an_age() -> None:
    ages = {age.name: age for age in stale.ages()}
    assert set(ages) == {path.stem for path in stale.RESULTS.glob("*.json")}
    assert ages["qat"].commits is None  # its script is gone, the evidence stays


def test_a_record_is_as_old_as_its_oldest_rows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = {"cpu": "of the record", "flags": []}
    rows = [{}, {"commit": "a"}, {"commit": "b", "cpu": "old"}, {"commit": "b", "cpu": "old"}]
    result = {"machine": machine, "commit": "c", "time": "2026-12-03T10:00", "rows": rows}
    origins = {("of the record", "c"): 1, ("not noted", "a"): 1, ("old", "b"): 2}
    assert record.origins(result) == origins
    (tmp_path / "race.json").write_text(json.dumps(result))
    monkeypatch.setattr(stale, "RESULTS", tmp_path)
    monkeypatch.setattr(
        stale, "_commits_since", lambda commit, name: {"a": 1, "b": 9}.get(commit, 0)
    )
    (age,) = stale.ages()
    assert (age.cpu, age.commit, age.commits) == ("old", "b", 9)


def test_trials_are_of_one_bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run that was stopped goes on, and never with what was measured of another bundle."""
    monkeypatch.setattr(record, "HERE", tmp_path / "benchmarks")
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.onnx").write_text(name)
    calls: list[str] = []

    def measure() -> int:
        calls.append("measured")
        return len(calls)

    for bundle, expected in (("one", 1), ("one", 1), ("other", 2), ("one", 3)):
        folder = record.trials_of_now("alarms", tmp_path / bundle)
        assert record.load_or_make(folder / "0.json", measure) == expected
