"""The history of verdicts: a SQLite file with one row per verdict and its numbers.

A verdict is added when a run ends or a bundle is validated. Repeating a run from the cache gives
the same verdict on the same measurements, and it is not added twice: a verdict is a duplicate if
its recipe, bundle, measurements and budget results equal those of the recipe's latest verdict.
(Returning to an earlier state adds a new verdict on an old measurement, which is marked as such.)

The file lies beside the store. Each verdict is written in one transaction. A damaged file costs
the history but never fails a run: callers turn the errors raised here into a warning.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from rarefy.pipeline.measure.measurements import CANDIDATE, Latency, Measurements
from rarefy.pipeline.measure.rows_per_second import Throughput
from rarefy.pipeline.store.home import HISTORY
from rarefy.pipeline.tasks.task import count_predictions
from rarefy.pipeline.terms import metrics
from rarefy.pipeline.terms.digests import value_sha256
from rarefy.pipeline.terms.errors import IntegrityError, ProviderError
from rarefy.pipeline.terms.outcomes import Outcome
from rarefy.pipeline.terms.wording import plural
from rarefy.pipeline.verdict.history_numbers import Machine, Past, Plain
from rarefy.pipeline.verdict.record import ReportData
from rarefy.pipeline.verdict.verdict import BudgetResult

FILE: Final = HISTORY
SCHEMA: Final = 5
WAIT: Final = 30.0
"""Seconds to wait for another writer; a write takes milliseconds."""
DATA: Final = "eval data"
"""The fact of a machine's settings that identifies the eval rows, by the beginning of a digest."""
DATA_DIGITS: Final = 12
_LOOK: Final = "PRAGMA user_version"
"""The least that reads the file."""
_TABLES = """
CREATE TABLE machines (digest TEXT PRIMARY KEY, facts TEXT NOT NULL);
CREATE TABLE verdicts (
    id INTEGER PRIMARY KEY, time TEXT NOT NULL, recipe TEXT NOT NULL, command TEXT NOT NULL,
    bundle TEXT, outcome TEXT NOT NULL, evidence TEXT NOT NULL, "commit" TEXT,
    machine TEXT NOT NULL REFERENCES machines, measured TEXT NOT NULL, judged TEXT NOT NULL,
    measured_at TEXT NOT NULL
);
CREATE INDEX verdicts_recipe ON verdicts (recipe, id);
CREATE INDEX verdicts_measured ON verdicts (recipe, measured);
CREATE TABLE numbers (
    verdict INTEGER NOT NULL REFERENCES verdicts, metric TEXT NOT NULL, target TEXT,
    value REAL, low REAL, high REAL, form TEXT, "limit" REAL, against TEXT,
    level TEXT, outcome TEXT, reason TEXT, caches TEXT NOT NULL DEFAULT 'warm'
);
CREATE INDEX numbers_verdict ON numbers (verdict);
CREATE TABLE baselines (
    verdict INTEGER NOT NULL REFERENCES verdicts, tag TEXT NOT NULL, digest TEXT NOT NULL
);
"""
_NUMBER = (
    *("metric", "target", "value", "low", "high"),
    *("form", "limit", "against", "level", "outcome", "reason", "caches"),
)
"""The columns of ``numbers`` after ``verdict``."""


class History:
    """The history in one file, which need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, data: ReportData, commit: str | None = None) -> bool:
        """Add a finished run's verdict; return whether a row was added.

        Nothing is added if the run has no verdict or its verdict equals the recipe's latest one.
        ``commit`` is that of the recipe's repository. The bundle is the one that was measured.

        Raises IntegrityError if the file is damaged or newer, ProviderError if it cannot be
        written.
        """
        if data.verdict is None or data.measurements is None:
            return False
        candidate = data.measurements.models.get(CANDIDATE)
        bundle = candidate.digest if candidate else None
        # What measurements of earlier versions do not have is no part of what tells them apart.
        since = {"rows", "seed", "sample", "called", "cold_called", "disturbed"}
        later: dict[str, Any] = {"latency": {"__all__": since}, "thresholds": True, "columns": True}
        if not data.measurements.predicted:
            later["predicted"] = True
        if not data.measurements.throughput:
            later["throughput"] = True
        if data.measurements.probe is None:
            later["probe"] = True
        measured = _sha256(data.measurements.model_dump_json(by_alias=True, exclude=later))
        of_budget = {"budgets": {"__all__": {"code"}}}
        verdict = data.verdict.model_dump_json(by_alias=True, exclude=of_budget)
        judged = _sha256(measured, verdict)
        with self._open() as database:
            if judged == _latest(database, data.name):
                return False
        machine = machine_of(data.measurements)
        plain = plain_numbers(data.measurements)
        with self._open(write=True) as database:
            if judged == _latest(database, data.name):
                return False
            facts = json.dumps(machine.facts, sort_keys=True)
            _insert(database, "OR IGNORE INTO machines", [(machine.digest, facts)])
            row = (
                None,  # SQLite numbers the rows
                data.created,
                data.name,
                data.command,
                bundle,
                data.verdict.outcome,
                json.dumps(data.verdict.evidence),
                commit,
                machine.digest,
                measured,
                judged,
                data.measured,
            )
            _insert(database, "INTO verdicts", [row])
            (added,) = database.execute("SELECT last_insert_rowid()").fetchone()
            numbers = [*map(_plain_row, plain), *map(_budget_row, data.verdict.budgets)]
            _insert(database, "INTO numbers", [(added, *number) for number in numbers])
            tags = data.measurements.baselines.items()
            _insert(database, "INTO baselines", [(added, *tag) for tag in tags])
        return True

    def recipes(self) -> list[str]:
        """Return the names of all recipes, the one with the latest verdict first."""
        with self._open() as database:
            rows = database.execute(
                "SELECT recipe FROM verdicts GROUP BY recipe ORDER BY max(id) DESC"
            )
            return [name for (name,) in rows]

    def count(self, recipe: str | None = None) -> dict[Outcome, int]:
        """Return the number of verdicts by standing (see ``Past.standing``)."""
        with self._open() as database:
            rows = database.execute(
                "SELECT CASE WHEN outcome = 'pass' AND evidence <> '[]' THEN 'inconclusive' "
                "ELSE outcome END AS standing, count(*) FROM verdicts "
                "WHERE ?1 IS NULL OR recipe = ?1 GROUP BY standing",
                (recipe,),
            )
            return dict(rows)

    def verdicts(
        self, recipe: str | None = None, limit: int | None = None, bundle: str | None = None
    ) -> list[Past]:
        """Return the latest ``limit`` verdicts (None: all), oldest first.

        ``bundle``: return only verdicts on the bundle with this digest.
        """
        with self._open() as database:
            rows = database.execute(
                'SELECT id, time, recipe, command, bundle, outcome, evidence, "commit", machine, '
                "facts, EXISTS (SELECT 1 FROM verdicts AS earlier WHERE earlier.id < verdicts.id "
                "AND earlier.recipe = verdicts.recipe AND earlier.measured = verdicts.measured), "
                "measured_at "
                "FROM verdicts JOIN machines ON machines.digest = machine "
                "WHERE (?1 IS NULL OR recipe = ?1) AND (?3 IS NULL OR bundle = ?3) "
                "ORDER BY id DESC LIMIT ?2",
                (recipe, -1 if limit is None else limit, bundle),
            ).fetchall()
            pasts = [_past(row) for row in reversed(rows)]
            by_id = {past.id: past for past in pasts}
            since = (min(by_id, default=0),)
            query = "SELECT * FROM numbers WHERE verdict >= ? ORDER BY rowid"
            for verdict, *number in database.execute(query, since):
                if verdict in by_id:
                    _put(by_id[verdict], number)
            query = "SELECT verdict, tag, digest FROM baselines WHERE verdict >= ?"
            for verdict, tag, digest in database.execute(query, since):
                if verdict in by_id:
                    by_id[verdict].baselines[tag] = digest
        return pasts

    def judged_on(self, data: str) -> set[str]:
        """Return the bundles with a verdict by the eval rows whose digest begins like ``data``."""
        place = f'$."{DATA}"'
        beginning = data[:DATA_DIGITS]
        query = (
            "SELECT DISTINCT bundle FROM verdicts JOIN machines ON machines.digest = machine "
            "WHERE bundle IS NOT NULL AND json_extract(facts, ?) = ?"
        )
        bundles = set()
        with self._open() as database:
            for (bundle,) in database.execute(query, (place, beginning)):
                bundles.add(bundle)
        return bundles

    @contextmanager
    def _open(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """Open the file. With ``write``, create it if it is missing and use one transaction."""
        try:
            database = self._connected("rwc") if write else self._reading()
            try:
                if write:
                    database.execute("BEGIN IMMEDIATE")
                self._prepare(database)
                yield database
                if write:
                    database.execute("COMMIT")
            finally:
                database.close()
        except sqlite3.DatabaseError as error:
            operational = isinstance(error, sqlite3.OperationalError)
            if operational and "no such" not in str(error):
                raise ProviderError(f"{self.path}: the history cannot be used: {error}") from None
            raise IntegrityError(
                f"{self.path}: the history of verdicts is damaged ({error}); move the file away "
                "to start a new history"
            ) from None
        except ValueError:
            raise IntegrityError(
                f"{self.path}: the history of verdicts is damaged; move the file away to start "
                "a new history"
            ) from None

    def _reading(self) -> sqlite3.Connection:
        """Return a connection that only reads; if there is no file, to an empty database.

        A process that was killed while it wrote leaves a journal beside the file, with which the
        next connection undoes what was half written: it has to write for that.
        """
        written = self.path.exists() and self.path.stat().st_size > 0
        if not written:
            return sqlite3.connect(":memory:")
        database = self._connected("ro")
        try:
            database.execute(_LOOK)
        except sqlite3.DatabaseError as error:
            database.close()
            if error.sqlite_errorname != "SQLITE_READONLY_ROLLBACK":
                raise
            with closing(self._connected("rw")) as mending:
                mending.execute(_LOOK)
            return self._reading()
        return database

    def _connected(self, mode: str) -> sqlite3.Connection:
        address = f"{self.path.resolve().as_uri()}?mode={mode}"
        return sqlite3.connect(address, WAIT, isolation_level=None, uri=True)

    def _prepare(self, database: sqlite3.Connection) -> None:
        """Create the tables if they are missing. Raises IntegrityError if the schema is another."""
        (schema,) = database.execute(_LOOK).fetchone()
        if schema == 0:
            for statement in filter(str.strip, _TABLES.split(";")):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {SCHEMA}")
        elif schema != SCHEMA:
            upgrade = "upgrade rarefy, or " if schema > SCHEMA else ""
            raise IntegrityError(
                f"{self.path}: the history has schema {schema}, but this rarefy supports only "
                f"{SCHEMA}; {upgrade}move the file away to start a new history"
            )


def plain_numbers(measurements: Measurements) -> list[Plain]:
    """Return the candidate's main score, size, and median latency on every target.

    If throughput was measured, also rows a second.
    """
    candidate = measurements.models.get(CANDIDATE)
    if candidate is None:
        return []
    numbers = []
    main, size = measurements.main, candidate.size
    expected = count_predictions(measurements.scored_by, measurements.truth)
    if measurements.truth and len(candidate.answers) == expected:
        score = Plain(main, None, None, None, None)
        if all(math.isfinite(number) for row in candidate.answers for number in row):
            score = Plain(main, None, *measurements.score(main, CANDIDATE))
        numbers.append(score)
    for target, timed in measurements.latency.items():
        samples = timed.samples.get(CANDIDATE)
        if not samples or not all(samples):
            continue
        median = Plain("latency_p50", target, *timed.percentile(CANDIDATE, 50))
        if timed.throttled:  # without bounds, nobody takes it for a change of the model
            median = median._replace(low=None, high=None)
        numbers.append(median)
    for target, counted in measurements.throughput.items():
        if CANDIDATE not in counted.samples:
            continue
        rate = Plain("throughput", target, *counted.rate(CANDIDATE))
        if counted.throttled:
            rate = rate._replace(low=None, high=None)
        numbers.append(rate)
    numbers.append(Plain("size", None, size, size, size))
    return numbers


def commit(folder: Path) -> str | None:
    """Return the git commit of a folder, with ``-dirty`` if tracked files were modified.

    Returns None if the folder is not in a repository, or git is missing or fails.
    """
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(
            [*command, "--exclude=*"], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _latest(database: sqlite3.Connection, recipe: str) -> str | None:
    """Return the digest of a recipe's latest verdict, None if it has none."""
    query = "SELECT judged FROM verdicts WHERE recipe = ? ORDER BY id DESC LIMIT 1"
    row = database.execute(query, (recipe,)).fetchone()
    if row is None:
        return None
    return str(row[0])


def _insert(
    database: sqlite3.Connection, into: str, rows: Sequence[tuple[int | float | str | None, ...]]
) -> None:
    """Insert rows, which have a value for every column of the table."""
    if rows:
        places = ", ".join("?" * len(rows[0]))
        database.executemany(f"INSERT {into} VALUES ({places})", rows)  # noqa: S608


def machine_of(measurements: Measurements) -> Machine:
    """Return the machine and settings of the measurements.

    Other eval data or another truth, thread count, number of timed rows or of calls in a block
    change the numbers, just as another machine does.
    """
    from rarefy.pipeline.measure import machine

    targets = {name: _settings(timed) for name, timed in measurements.latency.items()}
    truth = value_sha256([measurements.unlabelled, measurements.truth])[:12]
    how: dict[str, Any] = {DATA: measurements.data[:DATA_DIGITS], "truth": truth}
    how["target"] = targets
    if measurements.throughput:
        counted = {}
        for name, timed in measurements.throughput.items():
            counted[name] = _workers(timed)
        how["throughput"] = counted
    facts = measurements.machine | {name: fact for name, fact in how.items() if fact}
    return Machine(machine.digest(facts), facts)


def _settings(timed: Latency) -> str:
    """Return in words how a target's calls were made."""
    text = f"{timed.provider or 'cpu'}, {timed.threads} threads"
    if timed.block > 1:
        text += f", blocks of {timed.block} calls"
    if timed.rows:
        text += f", {plural(timed.rows, 'row')}"
    return text


def _workers(timed: Throughput) -> str:
    """Return in words how many rows of a target were answered at once."""
    workers = plural(timed.workers, "worker")
    return f"{workers}, {plural(timed.threads, 'thread')}, {plural(timed.rows, 'row')}"


def _plain_row(number: Plain) -> tuple[Any, ...]:
    bounds = _finite(number.value, number.low, number.high)
    without_budget = [None] * 6
    return (number.metric, number.target, *bounds, *without_budget, "warm")


def _budget_row(result: BudgetResult) -> tuple[Any, ...]:
    bounds = _finite(result.value, result.low, result.high)
    budget = (result.form, result.limit, result.against, result.level)
    judged = (result.outcome, result.reason, result.caches)
    return (_metric_of(result), result.target, *bounds, *budget, *judged)


def _metric_of(result: BudgetResult) -> str:
    """Return what stands in the column ``metric``: with a label or slice after a blank, if any."""
    if result.cell is None:
        return result.metric
    return f"{result.metric} {result.cell}"


def _with_cell(number: dict[str, Any]) -> dict[str, Any]:
    """Return a number whose label or slice is apart from its metric; see ``_metric_of``."""
    metric, _, cell = number["metric"].partition(" ")
    if not cell:
        return number
    named = {"metric": metric, "slice": cell}
    if metrics.known(metric).of_label:
        named = {"metric": metric, "label": cell.removeprefix("label=")}
    return number | named


def _finite(*values: float | None) -> list[float | None]:
    """Replace NaN and infinity by None, because SQL cannot store them."""
    storable: list[float | None] = []
    for value in values:
        if value is None or not math.isfinite(value):
            storable.append(None)
        else:
            storable.append(value)
    return storable


def _past(row: Sequence[Any]) -> Past:
    number, time, recipe, command, bundle, outcome, evidence, commit = row[:8]
    digest, facts, again, measured = row[8:]
    return Past(
        id=number,
        time=time,
        recipe=recipe,
        command=command,
        bundle=bundle,
        outcome=outcome,
        evidence=json.loads(evidence),
        commit=commit,
        machine=Machine(digest, json.loads(facts)),
        again=bool(again),
        measured=measured,
    )


def _put(past: Past, row: Sequence[Any]) -> None:
    number = dict(zip(_NUMBER, row, strict=True))
    if number["form"] is None:
        past.plain.append(Plain(*row[: len(Plain._fields)]))
    else:
        fields = _with_cell(number)
        past.budgets.append(BudgetResult(**fields))


def _sha256(*texts: str) -> str:
    joined = "\0".join(texts)
    return hashlib.sha256(joined.encode("utf-8", "surrogatepass")).hexdigest()
