"""What has been found of a bundle since its run: a newer verdict that is not a pass counts."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.release.bundles import Bundle
from pipeline.store import remote
from pipeline.store.home import Home
from pipeline.terms.errors import BudgetError, EvidenceError
from pipeline.terms.vocabulary import REMOTE_TAG
from pipeline.verdict import history
from pipeline.verdict.readings import Past
from pipeline.verdict.record import UNKNOWN, ReportData

VALIDATED = "rarefy validate "
"""How the command of a verdict on a bundle that was there already begins."""


def check(record: ReportData, bundle: Bundle, homes: Sequence[Home], places: Sequence[str]) -> None:
    """Raise if a recipe's newest verdict on this bundle is not a pass, unless the run's is newer.

    Another recipe counts if it judged the bundle as such, by `rarefy validate --recipe`; a pass by
    one does not excuse what another found. A run of another recipe that made the same bundle does
    not count: it may be meant for other targets. Nor may the newest comparison with a tag that is
    to move (``places``) be other than a pass, although a later measurement that did not compare
    with it passed, as after `rarefy ci --baseline`. A verdict on measurements from the cache is as
    old as the measurements. The verdicts of all ``homes`` count: of this machine, and of a store.

    Raises BudgetError if a budget was missed, EvidenceError if the verdict is inconclusive.
    """
    verdicts = [
        one
        for home in homes
        for one in history.History(home.path / history.FILE).verdicts(bundle=bundle.digest)
        if one.recipe == record.name or one.command.startswith(VALIDATED)
    ]
    verdicts.sort(key=lambda one: (one.measured, one.time, one.id))
    _check_compared(bundle, verdicts, places)
    by_recipe = {verdict.recipe: verdict for verdict in verdicts}
    for latest in by_recipe.values():
        older = (latest.measured, latest.time) < (record.measured, record.created)
        if latest.standing == "pass" or older:
            continue
        error = BudgetError if latest.standing == "fail" else EvidenceError
        raise error(
            f"{bundle.name}: its newest verdict is {latest.standing} ({latest.command}, "
            f"{latest.time}){_later_pass(record, latest)}; {places[0]!r} was not moved"
        )


def _check_compared(bundle: Bundle, verdicts: Sequence[Past], places: Sequence[str]) -> None:
    """Raise if the last verdict on a comparison with one of the tags is no pass; oldest first.

    What the recipe asks for may have changed since then: any later comparison counts.
    """
    last = {
        place: verdict
        for verdict in verdicts
        for budget in verdict.budgets
        for place in places
        if budget.against and same_tag(budget.against, place)
    }
    for place, verdict in last.items():
        asked = [b for b in verdict.budgets if b.against and same_tag(b.against, place)]
        missed = [b for b in asked if b.outcome != "pass" and b.level == "error"]
        if missed or verdict.evidence:
            error = BudgetError if any(b.outcome == "fail" for b in missed) else EvidenceError
            why = [*(budget.reason for budget in missed), *verdict.evidence][0]
            raise error(
                f"{bundle.name}: {why} ({verdict.command}, {verdict.time}), and nothing has been "
                f"compared with {place!r} since; {places[0]!r} was not moved"
            )


def same_tag(one: str, other: str) -> bool:
    """Return whether two names are of one tag: a remote's URL can be written in several ways."""
    if REMOTE_TAG in one and REMOTE_TAG in other:
        return remote.same(one, other)
    return one == other


def _later_pass(record: ReportData, latest: Past) -> str:
    """Say that the run's own pass rests on older measurements, if it was given later."""
    if record.created <= latest.time:
        return ""
    when = "an unknown time" if record.measured == UNKNOWN else record.measured
    return f"; the later pass of this run is on measurements of {when} from the cache"
