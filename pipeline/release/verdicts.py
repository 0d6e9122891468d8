"""The verdicts on a bundle: write them down, fetch them from a store, and judge the newest.

A run on this machine leaves its verdict in the project's history (``keep``), a run on another one
in a store's ``runs/RECIPE/TIME-RUN/`` (``fetch``). Before a tag moves, a newer verdict on the
bundle that is not a pass counts more than the run's own (``check_newest``).
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Final

from rarefy.pipeline.measure.measurements import Measurements
from rarefy.pipeline.release.bundles import Bundle
from rarefy.pipeline.run import folder, names
from rarefy.pipeline.run.plan.plan import Plan
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.store.remote import artifacts
from rarefy.pipeline.store.remote.artifacts import Remote
from rarefy.pipeline.store.remote.files import READ_ONLY
from rarefy.pipeline.store.store import Clock, wall
from rarefy.pipeline.terms import json_text
from rarefy.pipeline.terms.credentials import redact
from rarefy.pipeline.terms.errors import BudgetError, EvidenceError, ProviderError, RarefyError
from rarefy.pipeline.terms.recipe_parts import REMOTE_TAG
from rarefy.pipeline.verdict import history
from rarefy.pipeline.verdict.history_numbers import Past
from rarefy.pipeline.verdict.record import UNKNOWN, ReportData
from rarefy.pipeline.verdict.verdict import BudgetResult, Verdict

VALIDATED = "rarefy validate "
"""How the command of a verdict on a bundle that was there already begins."""
RUNS: Final = "runs"
"""The folder of a store that holds what deployed runs publish."""
APART: Final = "~"
"""Between a run's number, by which they are sorted, its time and its recipe, which have none."""


def keep(home: Path, data: ReportData, sources: Path) -> RarefyError | None:
    """Add a verdict to ``home``'s history; return why a verdict that matters was not added.

    If that fails, one line on stderr says so. For a pass that is all, because a run's verdict and
    report matter more than its entry in the history. Any other verdict that is missing there could
    be passed over by `rarefy promote`, so the error is returned, and the command must not exit 0.

    Args:
        home: the state folder that has the history.
        data: the run's record, with its verdict.
        sources: the recipe's folder, whose git commit is recorded.
    """
    try:
        commit = history.commit(sources)
        history.History(home / history.FILE).add(data, commit)
    except (RarefyError, OSError) as error:
        if _has_passed(data.verdict):
            _warn(f"warning: the verdict was not added to the history: {error}")
            return None
        _warn(
            "the verdict, which is not a pass, was not added to the history, so `rarefy promote` "
            f"would not know of it: {error}"
        )
        if isinstance(error, RarefyError):
            return error
        return ProviderError(str(error))
    return None


def _has_passed(verdict: Verdict | None) -> bool:
    """Return whether nothing was judged, or all budgets passed on sound evidence."""
    if verdict is None:
        return True
    return verdict.outcome == "pass" and not verdict.evidence


def _warn(message: str) -> None:
    print(f"rarefy: {redact(message)}", file=sys.stderr)


def keep_validated(
    home: Path, plan: Plan, bundle: Bundle, verdict: Verdict, measurements: Measurements
) -> RarefyError | None:
    """Add the verdict on a bundle that was measured again, without rebuilding it; see ``keep``."""
    loaded = plan.loaded
    words = ["rarefy", "validate", bundle.name]
    if loaded.path:
        words += ["--recipe", str(loaded.path)]
    data = ReportData(
        name=loaded.recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        measured_at=plan.store.now().isoformat(timespec="milliseconds"),
        command=shlex.join(words),
        recipe=loaded.portable_text,
        task=loaded.recipe.task,
        labels=plan.labels,
        rows=plan.summary.rows,
        ledger=[],
        lineage=[],
        verdict=verdict,
        measurements=measurements,
        machine=measurements.machine,
    )
    return keep(home, data, loaded.base)


def fetch(reference: str, digest: str, into: Path, now: Clock = wall) -> Home:
    """Fetch every run with a verdict on a bundle from the store of ``URL#TAG`` or ``URL#DIGEST``.

    Other references, and the web, where no run can publish, have none.

    Args:
        reference: the bundle's name, as the user gives it.
        digest: the bundle's digest.
        into: an empty folder, which becomes the home of these runs.
        now: this machine's clock.

    Returns:
        A home with these runs, named for their order, and the history of their verdicts, so that
        what holds for runs of this machine can be asked of them.

    Raises:
        EvidenceError: if a run cannot be read, because its verdict may be a miss.
        RarefyError: what reading the store raises.
    """
    home = Home(into)
    if REMOTE_TAG not in reference:
        return home
    url, _ = artifacts.split(reference)
    store = Remote.open(url)
    if store.protocols & READ_ONLY:
        return home
    past = history.History(home.path / history.FILE)
    latest = UNKNOWN
    present = now().isoformat(timespec="milliseconds")
    places = {}
    for run in _published_runs(store):
        if _judges(store, run, digest):
            places[run] = _place_in_order(store, run)
    judging = sorted(places, key=places.__getitem__)
    for number, run in enumerate(judging):
        parts = f"{number:06}", run.name, run.parent.name
        local = home.runs / APART.join(parts)
        _download(store, run, local)
        try:
            record = folder.read(local)
            if latest > present or not _has_passed(record.verdict):
                record = _not_before(record, latest)
            past.add(record)
        except (OSError, ValueError) as error:
            raise EvidenceError(
                f"{store.url}/{run}: its verdict on {digest[:12]} cannot be read: {error}; delete "
                "this run there if it does not count"
            ) from None
        latest = max(latest, record.measured)
    return home


def _place_in_order(store: Remote, run: PurePosixPath) -> int:
    """Return which of the store's runs one is in the order of publishing; 0 if it does not say."""
    content = store.read(f"{run}/{names.ORDER}") or b""
    try:
        return int(content)
    except ValueError:
        return 0


def _not_before(record: ReportData, latest: str) -> ReportData:
    """Return a record as late as anything that was published before it.

    The clock of the machine that published that may have been ahead. It is asked for misses, and
    for passes if that clock surely was: else one may have been measured before, published later.
    """
    later = max(record.measured, latest)
    return record.model_copy(update={"measured_at": later})


def address(reference: str, run: Path) -> str:
    """Return where the run lies in the store that ``fetch`` has fetched it from."""
    _, time, recipe = run.name.split(APART)
    url, _ = artifacts.split(reference)
    return f"{url.rstrip('/')}/{RUNS}/{recipe}/{time}"


def _published_runs(store: Remote) -> list[PurePosixPath]:
    """Return the folders of a store's runs that have a verdict, the oldest first."""
    runs = []
    for path in store.sizes(RUNS):
        if path.count("/") == 2 and path.endswith(f"/{names.VERDICT}"):
            runs.append(PurePosixPath(RUNS, path).parent)
    return sorted(runs, key=lambda run: run.name)


def _judges(store: Remote, run: PurePosixPath, digest: str) -> bool:
    """Return whether a run's verdict is on a bundle; of a damaged one, by the run's record."""
    content = store.read(f"{run}/{names.VERDICT}") or b"null"
    try:
        verdict = json_text.parse(content)
    except ValueError:
        record = store.read(f"{run}/{names.RECORD}") or b""
        return digest.encode() in record
    return isinstance(verdict, dict) and verdict.get("bundle") == digest


def _download(store: Remote, run: PurePosixPath, local: Path) -> None:
    """Copy a run's record and its answers, as far as they are there."""
    local.mkdir(parents=True)
    for name in (names.RECORD, names.ANSWERS):
        content = store.read(f"{run}/{name}")
        if content is not None:
            (local / name).write_bytes(content)


def check_newest(
    record: ReportData,
    bundle: Bundle,
    homes: Sequence[Home],
    places: Sequence[str],
    now: Clock = wall,
) -> None:
    """Raise if a recipe's newest verdict on this bundle is not a pass, unless the run's is newer.

    Another recipe counts if it judged the bundle as such, by `rarefy validate --recipe`; a pass by
    one does not excuse what another found. A run of another recipe that made the same bundle does
    not count: it may be meant for other targets. Nor may the newest comparison with a tag that is
    to move be other than a pass, although a later measurement that did not compare with it passed,
    as after `rarefy ci --baseline`. A verdict on measurements from the cache is as old as the
    measurements.

    Args:
        record: the record of the run whose verdict lets the tags move.
        bundle: the bundle they move to.
        homes: where verdicts are looked up: of this machine, and of a store.
        places: the tags, the local one first.
        now: this machine's clock; a record of a later time is no newer than any miss.

    Raises:
        BudgetError: if a budget was missed.
        EvidenceError: if the verdict is inconclusive.
    """
    verdicts = _verdicts_on(bundle, record.name, homes)
    _check_compared(bundle, verdicts, places)
    by_recipe = {verdict.recipe: verdict for verdict in verdicts}
    # A clock was ahead, so the record's time does not say that it is newer.
    present = now().isoformat(timespec="milliseconds")
    from_future = record.measured > present
    for latest in by_recipe.values():
        is_older = (latest.measured, latest.time) < (record.measured, record.created)
        if latest.standing == "pass" or (is_older and not from_future):
            continue
        error = BudgetError if latest.standing == "fail" else EvidenceError
        raise error(
            f"{bundle.name}: its newest verdict is {latest.standing} ({latest.command}, "
            f"{latest.time}){_later_pass(record, latest)}; {places[0]!r} was not moved"
        )


def _verdicts_on(bundle: Bundle, recipe: str, homes: Sequence[Home]) -> list[Past]:
    """Return the verdicts on a bundle that count for a run of ``recipe``, the oldest first."""
    verdicts = []
    for home in homes:
        past = history.History(home.path / history.FILE)
        for verdict in past.verdicts(bundle=bundle.digest):
            if verdict.recipe == recipe or verdict.command.startswith(VALIDATED):
                verdicts.append(verdict)
    return sorted(verdicts, key=lambda verdict: (verdict.measured, verdict.time, verdict.id))


def _check_compared(bundle: Bundle, verdicts: Sequence[Past], places: Sequence[str]) -> None:
    """Raise if the last verdict on a comparison with one of the tags is no pass; oldest first.

    What the recipe asks for may have changed since then: any later comparison counts.
    """
    last: dict[str, Past] = {}
    for verdict in verdicts:
        for place in places:
            if _compared_with(verdict, place):
                last[place] = verdict
    for place, verdict in last.items():
        missed = []
        for budget in _compared_with(verdict, place):
            if budget.outcome != "pass" and budget.level == "error":
                missed.append(budget)
        if not missed and not verdict.evidence:
            continue
        has_failed = any(budget.outcome == "fail" for budget in missed)
        reason = missed[0].reason if missed else verdict.evidence[0]
        error = BudgetError if has_failed else EvidenceError
        raise error(
            f"{bundle.name}: {reason} ({verdict.command}, {verdict.time}), and nothing has been "
            f"compared with {place!r} since; {places[0]!r} was not moved"
        )


def _compared_with(verdict: Past, place: str) -> list[BudgetResult]:
    """Return the budgets of a verdict that are against a tag."""
    return [b for b in verdict.budgets if b.against and same_tag(b.against, place)]


def same_tag(one: str, other: str) -> bool:
    """Return whether two names are of one tag: a remote's URL can be written in several ways."""
    if REMOTE_TAG in one and REMOTE_TAG in other:
        return artifacts.same(one, other)
    return one == other


def _later_pass(record: ReportData, latest: Past) -> str:
    """Return the words on a run's own pass that is later, but rests on older measurements."""
    if record.created <= latest.time:
        return ""
    when = "an unknown time" if record.measured == UNKNOWN else record.measured
    return f"; the later pass of this run is on measurements of {when} from the cache"
