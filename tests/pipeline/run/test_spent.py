"""A stage's time has that of the attempts that were killed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from rarefy.pipeline.run.engine import TIME_FILE, WorkClock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr("time.perf_counter", lambda: now.seconds)
    return now


def test_what_a_killed_attempt_noted_counts(tmp_path: Path, clock: SimpleNamespace) -> None:
    said: list[float] = []
    report = WorkClock(tmp_path).noting(lambda done, total, note: said.append(done))
    for at in (5, 12, 15):
        clock.seconds = 100.0 + at
        report(at, 20, "steps")
    assert said == [5, 12, 15]
    clock.seconds = 500.0  # killed after 15 s, of which 12 were noted
    again = WorkClock(tmp_path)
    clock.seconds = 503.0
    assert again.seconds == 15.0


def test_an_attempt_that_fails_counts_to_its_end(tmp_path: Path, clock: SimpleNamespace) -> None:
    work = WorkClock(tmp_path)
    clock.seconds = 107.0
    with pytest.raises(KeyboardInterrupt), work.until_it_breaks():
        raise KeyboardInterrupt
    assert WorkClock(tmp_path).seconds == 7.0


def test_a_damaged_note_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / TIME_FILE).write_text("{")
    assert WorkClock(tmp_path).seconds < 60


def test_a_run_that_goes_on_records_all_its_time(workshop) -> None:
    run = workshop.open("quick:Word")
    run.execute("model")
    known = {name: step.artifact for name, step in run.finished.items()}
    work = workshop.store.work(run.plan.fingerprint("word", known))
    (work / TIME_FILE).write_text('{"seconds": 600}')
    record = run.execute("word").artifact.run_record()
    assert record["resumed"]
    assert 600 < record["seconds"] < 660
