"""The history of verdicts: what it keeps, duplicates, and recovery from a broken file."""

from __future__ import annotations

import math
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from rarefy.pipeline.terms.errors import IntegrityError, ProviderError
from rarefy.pipeline.verdict.history import History, commit
from rarefy.pipeline.verdict.history_numbers import Key, changes, comparable, readings
from tests.pipeline.report.factory import digest
from tests.pipeline.report.verdicts import MACHINE, asked, finished


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history.sqlite")


def test_a_verdict_comes_back_as_it_was_judged(history: History) -> None:
    budgets = [
        asked("accuracy", "max_drop", 0.01, 0.004, 0.002, against="teacher"),
        asked("latency_p99", "max", 4.0, None, target="cpu", level="warn"),
    ]
    data = finished(0, budgets=budgets, evidence=["the CPU was throttled"])
    assert history.add(data, "c0ffee")
    (past,) = history.verdicts()
    assert past.budgets == budgets
    assert (past.time, past.recipe, past.command) == (data.created, data.name, data.command)
    assert (past.bundle, past.commit, past.outcome) == (digest("bundle 0"), "c0ffee", "pass")
    assert past.evidence == ["the CPU was throttled"]
    assert (past.machine.cpu, past.machine.cores, past.machine.runtime) == (
        MACHINE["cpu"], 2, "1.31.0",
    )  # fmt: skip


def test_accuracy_size_and_latency_are_kept_though_no_budget_asks(history: History) -> None:
    history.add(finished(0, right=86, rows=100, milliseconds=1.25, size=9_890_000))
    found = {(one.metric, one.target): one for one in history.verdicts()[0].plain}
    accuracy = found["accuracy", None]
    # Wilson's interval for 86 of 100, by hand
    assert (accuracy.value, accuracy.low, accuracy.high) == pytest.approx(
        (0.86, 0.7786, 0.9147), abs=1e-4
    )
    assert found["size", None][2:] == (9_890_000,) * 3
    latency = found["latency_p50", "cpu"]
    assert latency.value == pytest.approx(1.25, rel=1e-3)
    assert latency.low <= latency.value <= latency.high


def test_a_run_from_the_cache_is_the_same_verdict(history: History) -> None:
    first = finished(0)
    assert history.add(first)
    later = first.model_copy(update={"created": "2025-09-09T00:00:00+00:00"})
    assert not history.add(later)
    assert [past.time for past in history.verdicts()] == [first.created]


def test_other_eval_data_or_another_target_is_no_number_to_compare_with(history: History) -> None:
    data = [finished(index, milliseconds=1.0) for index in range(5)]
    data[1].measurements.data = "f" * 64
    data[2].measurements.latency["cpu"].threads = 2
    data[3].measurements.truth = [0] * 3
    data[4].measurements.latency["cpu"].rows = 5
    for one in data:
        history.add(one)
    first, second, third, *others = (past.machine for past in history.verdicts())
    assert len({each.digest for each in (first, second, third, *others)}) == 5
    assert changes(first, second) == ["eval data: none → ffffffffffff"]
    assert any(
        said.startswith("target.cpu: cpu, 1 threads") and "→ cpu, 2 threads" in said
        for said in changes(second, third)
    )


def test_the_verdicts_on_one_bundle(history: History) -> None:
    for index in range(3):
        history.add(finished(index))
    (past,) = history.verdicts(bundle=digest("bundle 1"))
    assert past.bundle == digest("bundle 1")


def test_a_return_to_an_earlier_state_is_a_verdict_on_an_old_measurement(history: History) -> None:
    for index in (0, 1, 0):
        assert history.add(finished(index))
    assert [past.again for past in history.verdicts()] == [False, False, True]


def test_other_budgets_make_another_verdict_of_the_same_measurement(history: History) -> None:
    for limit in (0.8, 0.99):
        assert history.add(finished(0, budgets=[asked("accuracy", "min", limit, 0.86)]))
    assert [past.outcome for past in history.verdicts()] == ["pass", "fail"]


def test_a_run_without_a_verdict_leaves_nothing(history: History) -> None:
    assert not history.add(finished(0).model_copy(update={"verdict": None}))
    assert not history.path.exists()
    assert (history.verdicts(), history.recipes(), history.count()) == ([], [], {})
    assert not history.path.exists()


def test_numbers_that_are_none_are_kept_as_none(history: History) -> None:
    data = finished(0, budgets=[asked("accuracy", "min", 0.8, None)])
    data.measurements.models["candidate"].answers[3] = [math.nan, 0.5]
    history.add(data)
    (past,) = history.verdicts()
    assert [one.value for one in past.plain if one.metric == "accuracy"] == [None]
    assert past.budgets[0].value is None
    assert past.outcome == "fail"


def test_the_latest_ones_the_recipes_and_a_metrics_series(history: History) -> None:
    for index in range(4):
        history.add(finished(index, right=80 + index))
    history.add(finished(9, name="other", evidence=["another machine"]))
    assert history.recipes() == ["other", "reviews"]
    assert [past.bundle for past in history.verdicts("reviews", 2)] == [
        digest("bundle 2"),
        digest("bundle 3"),
    ]
    assert history.count("reviews") == {"pass": 4}
    assert history.count() == {"pass": 4, "inconclusive": 1}


ADD = """
import sys
from contextlib import closing
from pathlib import Path
from rarefy.pipeline.verdict.history import History
from tests.pipeline.report.verdicts import finished
for index in range(20):
    assert History(Path(sys.argv[1])).add(finished(index, name=sys.argv[2]))
"""


@pytest.mark.slow
def test_two_runs_that_end_at_once_both_get_in(history: History) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", ADD, str(history.path), name])
        for name in ("one", "two")
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    assert len(history.verdicts()) == 40
    assert history.count("one") == history.count("two") == {"pass": 20}


KILLED = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")  # so what is not committed reaches the file
database.execute("BEGIN IMMEDIATE")
for table in ("numbers", "verdicts"):
    database.execute(f"DELETE FROM {table}")
rows = ((str(number), "x" * 4000) for number in range(100))
database.executemany("INSERT INTO machines VALUES (?, ?)", rows)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_had_half_written_is_undone(history: History) -> None:
    for index in range(3):
        history.add(finished(index))
    before, whole = history.verdicts(), history.path.read_bytes()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(history.path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert history.path.read_bytes() != whole
    reader = sqlite3.connect(f"{history.path.as_uri()}?mode=ro", uri=True)
    with closing(reader), pytest.raises(sqlite3.OperationalError) as refused:
        reader.execute("SELECT * FROM verdicts")
    assert refused.value.sqlite_errorname == "SQLITE_READONLY_ROLLBACK"
    assert history.verdicts() == before
    assert history.path.read_bytes() == whole
    assert history.add(finished(3))


@pytest.mark.parametrize("damage", ["text", "cut", "zeros"])
def test_a_damaged_file_is_said_in_one_line_and_left_alone(history: History, damage: str) -> None:
    for index in range(30):
        history.add(finished(index))
    whole = history.path.read_bytes()
    half = len(whole) // 2
    broken = {"text": b"my shopping list\n" * 99, "cut": whole[:half]}
    history.path.write_bytes(broken.get(damage, whole[:4096] + b"\0" * (len(whole) - 4096)))
    before = history.path.read_bytes()
    for use in (history.verdicts, lambda: history.add(finished(99))):
        with pytest.raises(
            IntegrityError, match=r"history\.sqlite: the history .* damaged"
        ) as said:
            use()
        assert "\n" not in str(said.value)
    assert history.path.read_bytes() == before


@pytest.mark.parametrize(("schema", "advice"), [(6, "upgrade rarefy, or move"), (4, "move")])
def test_another_schema_is_refused_and_left_alone(
    history: History, schema: int, advice: str
) -> None:
    history.add(finished(0))
    with closing(sqlite3.connect(history.path)) as database:
        database.execute(f"PRAGMA user_version = {schema}")
    before = history.path.read_bytes()
    said = f"has schema {schema}, but this rarefy supports only 5; {advice} the file away to start"
    for use in (history.verdicts, lambda: history.add(finished(1))):
        with pytest.raises(IntegrityError, match=said):
            use()
    assert history.path.read_bytes() == before


def test_a_verdict_is_as_old_as_its_measurement(history: History) -> None:
    for day, index in enumerate((0, 1, 0), 1):
        data = finished(index, measured_at=f"2025-01-0{1 + index}")
        history.add(data.model_copy(update={"created": f"2025-02-0{day}"}))
    days = ["2025-01-01", "2025-01-02", "2025-01-01"]
    assert [past.measured for past in history.verdicts()] == days


def test_times_with_cold_caches_are_numbers_of_their_own(history: History) -> None:
    budgets = [
        asked("latency_p50", "max", 4.0, 1.0, target="cpu"),
        asked("latency_p50", "max", 9.0, 5.0, target="cpu", caches="cold"),
    ]
    history.add(finished(0, milliseconds=1.0, budgets=budgets))
    (past,) = history.verdicts()
    assert past.budgets == budgets
    found = readings(past)
    assert found[Key("latency_p50", "cpu")].limits == {"max": 4.0}
    assert found[Key("latency_p50", "cpu with cold caches")].limits == {"max": 9.0}


def test_a_number_against_a_tag_does_not_compare_with_one_against_what_it_was_before(
    history: History,
) -> None:
    """A better bundle is promoted, and the next is as good as it: nothing became worse."""
    for index, (regression, base) in enumerate([(-0.3, "old"), (-0.3, "old"), (0.0, "new")]):
        asks = [("latency_p50", "max_regression", "production"), ("size", "min_shrink", "teacher")]
        budgets = [asked(m, f, 1.0, regression, 0.01, against=a) for m, f, a in asks]
        data = finished(index, milliseconds=1.0, budgets=budgets)
        assert data.measurements is not None
        tagged = data.measurements.model_copy(update={"baselines": {"production": base}})
        history.add(data.model_copy(update={"measurements": tagged}))
    first, second, third = history.verdicts()
    assert [past.baselines["production"] for past in (first, third)] == ["old", "new"]
    key = Key("latency_p50", None, "max_regression", "production")
    assert comparable(key, first, second)
    assert not comparable(key, second, third)
    for other in (Key("latency_p50", "cpu"), Key("size", None, "min_shrink", "teacher")):
        assert comparable(other, second, third)


def test_more_calls_of_the_same_rows_are_the_same_machine(history: History) -> None:
    """How many there are depends on the clock."""
    data = [finished(index, milliseconds=1.0) for index in range(2)]
    data[1].measurements.latency["cpu"].tokens = [8] * 400
    for one in data:
        history.add(one)
    first, second = history.verdicts()
    assert first.machine == second.machine


def test_the_time_of_a_slowed_machine_has_no_bounds(history: History) -> None:
    data = finished(0, milliseconds=1.0)
    data.measurements.latency["cpu"].throttled = "the clock fell"
    history.add(data)
    (past,) = history.verdicts()
    (p50,) = (one for one in past.plain if one.metric == "latency_p50")
    assert (p50.value, p50.low, p50.high) == (pytest.approx(1.0, rel=0.01), None, None)


def test_times_of_blocks_do_not_compare_with_times_of_single_calls(history: History) -> None:
    data = finished(0, milliseconds=1.0)
    history.add(data)
    assert data.measurements is not None
    blocks = {"cpu": data.measurements.latency["cpu"].model_copy(update={"block": 20})}
    again = data.measurements.model_copy(update={"latency": blocks})
    history.add(data.model_copy(update={"measurements": again}))
    first, second = history.verdicts()
    assert changes(first.machine, second.machine) == [
        "target.cpu: cpu, 1 threads, 300 rows → cpu, 1 threads, blocks of 20 calls, 300 rows"
    ]
    assert not comparable(Key("latency_p50", "cpu"), first, second)


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="cannot be used: unable to open"):
        History(tmp_path / "nowhere" / "history.sqlite").add(finished(0))


def test_the_commit_of_a_repository_and_of_none(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        done = subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *arguments],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout.strip()

    assert commit(tmp_path) is None
    git("init", "-q")
    assert commit(tmp_path) is None
    (tmp_path / "recipe.yaml").write_text("name: a\n")
    git("add", ".")
    git("commit", "-qm", "a")
    assert commit(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "recipe.yaml").write_text("name: b\n")
    assert commit(tmp_path) == git("rev-parse", "HEAD") + "-dirty"


def test_labels_and_slices_are_numbers_of_their_own(history: History) -> None:
    budgets = [asked("recall", "min", 0.9, value, label="New York") for value in (0.95, 0.93)] + [
        asked("recall", "min", 0.9, 0.91, label="slice=x"),
        asked("accuracy", "min", 0.9, 0.92, slice="language=de at"),
        asked("accuracy", "min", 0.9, 0.94),
    ]
    history.add(finished(0, budgets=budgets))
    (past,) = history.verdicts()
    assert past.budgets == budgets
    found = readings(past)
    assert found[Key("recall", cell="label=slice=x")].value == 0.91
    assert found[Key("accuracy", cell="language=de at")].value == 0.92
    assert Key("accuracy", cell=None) in found
