"""What has been found of a bundle since its run decides whether it is promoted."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rarefy.pipeline.release import verdicts
from rarefy.pipeline.release.bundles import Bundle
from rarefy.pipeline.run import folder
from rarefy.pipeline.store.artifact import RUN
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.errors import BudgetError
from rarefy.pipeline.terms.outcomes import Outcome
from rarefy.pipeline.verdict.history import History
from rarefy.pipeline.verdict.record import ReportData
from rarefy.pipeline.verdict.verdict import BudgetResult
from tests.desk import Desk
from tests.pipeline.report.verdicts import asked, finished
from tests.pipeline.store.artifacts import overwrite
from tests.project import Project


@pytest.mark.parametrize(("outcome", "code"), [("fail", 3), ("inconclusive", 4), ("pass", 0)])
def test_a_newer_verdict_on_the_same_bundle_counts(desk: Desk, outcome: str, code: int) -> None:
    """The run passed, but `rarefy ci` or `rarefy validate` has since given another verdict."""
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
        assert f"its newest verdict is {outcome} (rarefy ci tiny.yaml, 2999" in said.err


SIZE = asked("size", "max", 9.0, 2.0)
SLOWER = asked("latency_p50", "max_regression", 0.05, 0.2, against="production")
FASTER = asked("latency_p50", "min_speedup", 0.9, 1.0, against="production")
THROTTLED = ["cpu: throttled half way"]
BY_STRICT = "rarefy validate tiny --recipe strict.yaml"


@pytest.mark.parametrize(
    ("later", "evidence", "code"),
    [
        ([SIZE], [], 3),
        ([SIZE, SLOWER.model_copy(update={"outcome": "pass"})], [], 0),
        ([SIZE, FASTER], [], 0),
        ([SIZE, SLOWER.model_copy(update={"level": "warn"})], [], 0),
        ([SIZE, FASTER], THROTTLED, 4),
    ],
    ids=["not compared", "the same budget", "another form", "only a warning", "disturbed"],
)
def test_a_missed_comparison_stays_until_the_next_one_whatever_passes_between(
    desk: Desk, later: list[BudgetResult], evidence: list[str], code: int
) -> None:
    """`rarefy ci --baseline` failed; then come ``later``, and a pass without a comparison."""
    past = History(desk.home / "history.sqlite")
    sequence = [("fail", [SIZE, SLOWER], []), ("pass", later, evidence), ("pass", [SIZE], [])]
    for number, (outcome, budgets, against_it) in enumerate(sequence):
        verdict = finished(number, budgets=budgets, outcome=outcome, name="tiny")
        verdict.measurements.models["candidate"].digest = desk.digest
        verdict.verdict.evidence.extend(against_it)
        when = f"2999-01-0{number + 1}T00:00:00+00:00"
        assert past.add(verdict.model_copy(update={"created": when, "measured_at": when}))
    said = desk.rarefy("promote", "tiny")
    assert said.code == code
    assert (desk.production == desk.digest) == (code == 0)
    if code:
        assert "nothing has been compared with 'production' since" in said.err
        assert desk.rarefy("promote", "tiny", "other").code == 0


@pytest.mark.parametrize(
    ("day", "command", "refused"),
    [
        (1, BY_STRICT, True),
        (-1, BY_STRICT, False),
        (0, BY_STRICT, False),
        (1, "rarefy run strict.yaml", False),
    ],
    ids=["newer", "older", "the same measurement, judged before", "a run of its own"],
)
def test_a_verdict_by_another_recipe_counts_until_that_one_passes(
    tmp_path: Path, day: int, command: str, refused: bool
) -> None:
    """If it judged this bundle as such; a pass by the run's own recipe hides no fail."""
    past = History(tmp_path / "history.sqlite")
    bundle, now = Bundle("tiny", tmp_path, None), datetime.now(UTC)

    def judged(number: int, name: str, outcome: Outcome, created: float, days: float) -> ReportData:
        verdict = finished(number, outcome=outcome, name=name, command=command)
        verdict.measurements.models["candidate"].digest = bundle.digest
        made, measured = ((now + timedelta(days=each)).isoformat() for each in (created, days))
        return verdict.model_copy(update={"created": made, "measured_at": measured})

    def check() -> None:
        verdicts.check_newest(run, bundle, [Home(tmp_path)], ["production"])

    run = judged(0, "tiny", "pass", 0, 0)
    assert past.add(judged(1, "strict", "fail", day or -1, day))
    assert past.add(judged(2, "tiny", "pass", 2, 2))
    if refused:
        with pytest.raises(BudgetError, match=f"its newest verdict is fail .{command}, "):
            check()
        assert past.add(judged(3, "strict", "pass", 3, 3))
    check()


def test_an_older_verdict_does_not(desk: Desk) -> None:
    older = finished(0, outcome="fail", name="tiny")
    older.measurements.models["candidate"].digest = desk.digest
    assert History(desk.home / "history.sqlite").add(older)
    assert desk.rarefy("promote", "tiny").code == 0


def test_a_pass_from_the_cache_does_not_hide_a_newer_failing_measurement(
    desk: Desk, here: Project
) -> None:
    """Run, measure again with a fail, run from the cache: the last pass is on old measurements."""
    past = History(desk.home / "history.sqlite")
    first = folder.read(desk.run)
    assert past.add(first)
    budgets = [asked("size", "max", 1.0, 2.0)]
    failed = finished(1, budgets=budgets, name="tiny", command="rarefy validate tiny")
    failed.measurements.models["candidate"].digest = desk.digest
    now = datetime.now(UTC).isoformat()
    assert past.add(failed.model_copy(update={"created": now, "measured_at": now}))
    time.sleep(1.1)  # a record's own time is in seconds
    recipe, home = here.folder / "tiny.yaml", ("--home", desk.home)
    said = desk.rarefy("run", recipe, "--engine", "inline", "--threads", "1", *home)
    assert (said.code, said.out) == (0, "verdict: pass\n")
    again = folder.read(desk.run)
    assert first.measured_at is not None
    assert again.measured_at == first.measured_at
    assert [one.outcome for one in past.verdicts()] == ["pass", "fail", "pass"]
    said = desk.rarefy("promote", "tiny", *home)
    assert said.code == 3
    assert "its newest verdict is fail (rarefy validate tiny, " in said.err
    assert f"this run is on measurements of {first.measured_at} from the cache" in said.err
    assert desk.production is None


@pytest.mark.parametrize("text", ["", "{}", '{"started": "2026-01-01", "seconds": 1e300}'])
def test_a_pass_on_measurements_of_an_unknown_time_hides_no_fail(
    desk: Desk, here: Project, text: str
) -> None:
    """The record of when they were made is damaged; the run from the cache is new, they are not."""
    for digest in desk.store.digests():
        overwrite(desk.store.directory(digest) / RUN, text)
    past = History(desk.home / "history.sqlite")
    failed = finished(1, outcome="fail", name="tiny", command="rarefy validate tiny")
    failed.measurements.models["candidate"].digest = desk.digest
    assert past.add(failed)
    recipe, home = here.folder / "tiny.yaml", ("--home", desk.home)
    said = desk.rarefy("run", recipe, "--engine", "inline", "--threads", "1", *home)
    assert (said.code, said.out) == (0, "verdict: pass\n")
    said = desk.rarefy("promote", "tiny", *home)
    assert said.code == 3
    assert "this run is on measurements of an unknown time from the cache" in said.err
    assert desk.production is None


def test_a_miss_after_the_clock_was_set_back_counts(desk: Desk, here: Project) -> None:
    """The run ends while the clock is ahead: its pass is of 2999, the miss that follows is not."""
    recipe, home = here.folder / "tiny.yaml", ("--home", desk.home)
    ahead = desk.store.now(lambda: datetime(2999, 1, 1, tzinfo=UTC))
    when = ahead.isoformat(timespec="milliseconds")
    desk.record(lambda values: values.update(created=when, measured_at=when))
    assert History(desk.home / "history.sqlite").add(folder.read(desk.run))
    strict = recipe.with_name("strict.yaml")
    tightened = recipe.read_text() + "  - {metric: size, max: 1 kB}\n"
    strict.write_text(tightened.replace("name: tiny", "name: strict"))
    said = desk.rarefy("validate", "tiny", "--recipe", strict, *home)
    assert said.code == 3, said.err
    said = desk.rarefy("promote", "tiny", *home)
    assert said.code == 3
    assert "its newest verdict is fail (rarefy validate tiny --recipe" in said.err
    assert desk.production is None


def test_a_pass_of_a_time_to_come_is_not_newer_than_a_miss(tmp_path: Path) -> None:
    past = History(tmp_path / "history.sqlite")
    bundle = Bundle("tiny", tmp_path, None)
    failed = finished(1, outcome="fail", name="tiny")
    failed.measurements.models["candidate"].digest = bundle.digest
    assert past.add(failed)
    later = datetime.fromisoformat(failed.created) + timedelta(days=1)
    run = finished(2, name="tiny", created=later.isoformat())

    def check(days: int) -> None:
        now = later + timedelta(days=days)
        verdicts.check_newest(run, bundle, [Home(tmp_path)], ["production"], lambda: now)

    check(1)
    with pytest.raises(BudgetError, match="its newest verdict is fail"):
        check(-1)


def test_tags_of_two_hosts_are_not_the_same() -> None:
    staging, production = (f"webhdfs://{host}:9870/m#t" for host in ("staging", "production"))
    assert not verdicts.same_tag(staging, production)
    assert verdicts.same_tag(staging, staging.replace("/m", "/m/"))
