"""``rarefy promote``: a tag moves to a bundle that passed, and to no other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from flows.options import Home, home_option, json_option, show_json

if TYPE_CHECKING:
    from flows.bundles import Bundle
    from pipeline.artifact import Artifact
    from pipeline.report.data import ReportData
    from pipeline.store import Store

BY_HAND = "`rarefy artifact tag {tag} {digest}` moves a tag without a verdict"


@click.command(short_help="Move a tag to a run's bundle, if its verdict is a pass.")
@click.argument("run")
@click.argument("tag", default="production")
@click.option(
    "--to", "url", metavar="URL", help="Push it to this store too, and move the tag there."
)
@home_option
@json_option
def promote(run: str, tag: str, url: str | None, home: Home, as_json: bool) -> int:
    """Point TAG (default: production) at the bundle of RUN: a run, its folder, or a digest.

    The bundle's bytes are hashed, and the verdict must be of this very bundle. A missed budget
    ends with 3, anything but a pass with 4, damage with 6, and the tag stays where it is. So it
    does where the run was compared with TAG, and TAG has moved since, and where a newer verdict
    of the recipe on this bundle, of `rarefy ci` or `rarefy validate`, is no pass.

    Example: `rarefy promote demo production --to s3://models/rarefy`
    """
    from flows.bundles import find
    from pipeline import remote
    from pipeline.errors import BudgetError
    from pipeline.tags import check_name

    check_name(tag)
    found, store = find(run, home), home.store()
    folder, record = verdict_of(found, home, tag)
    missed = [
        b.reason for b in record.verdict.budgets if b.outcome == "fail" and b.level == "error"
    ]
    said: dict[str, Any] = {"tag": tag, "digest": found.digest, "run": str(folder)}
    if record.verdict.outcome == "fail":
        if as_json:
            show_json(said | {"moved": False, "missed": missed, "exit_code": BudgetError.exit_code})
        for reason in missed:
            click.echo(f"missed: {reason}", err=True)
        click.echo(f"rarefy: {run}: missed its budgets; {tag!r} stays where it is", err=True)
        return BudgetError.exit_code
    places = [tag] if url is None else [tag, f"{url}#{tag}"]
    check_verdict(record, found, places)
    check_newest(record, found, home, tag)
    current = store.find_tag(tag)
    before = current.digest if current else None
    check_unmoved_since(record, tag, tag, before)
    artifact = whole(store, found)
    facts: dict[str, Any] = {"why": "promote", "run": record.name, "verdict": "pass"}
    if url is not None:
        there = remote.find_tag(url, tag)
        there_before = there.digest if there else None
        check_unmoved_since(record, f"{url}#{tag}", tag, there_before)
        remote.push(store, artifact.digest, url, tag, expect=there_before, **facts)
    store.tag(tag, artifact.digest, expect=before, **facts)
    if as_json:
        moved = before != artifact.digest
        show_json(said | {"moved": moved, "from": before, "pushed": url, "exit_code": 0})
        return 0
    click.echo(_told(tag, artifact.digest, before))
    if url is not None:
        click.echo(f"{url}#{tag} -> {artifact.short}")
    return 0


def verdict_of(found: Bundle, home: Home, tag: str) -> tuple[Path, ReportData]:
    """Return the newest run with a verdict on this very bundle, and its folder.

    Raises EvidenceError where there is none.
    """
    from pipeline import outcome
    from pipeline.errors import EvidenceError

    places = [Path(found.name), home.runs / found.name, Path(found.name).parent]
    named = [place / "run.json" for place in places if (place / "bundle").is_dir()]
    others = home.runs.glob("*/run.json")
    newest_first = sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)
    why = "no run here has a verdict on this bundle"
    for path in filter(Path.is_file, (*named, *newest_first)):
        try:
            record = outcome.read(path.parent)
        except ValueError:
            why = f"{path} cannot be read, so no verdict on this bundle is known: run again"
            continue
        if record.verdict is not None and _judged(record) == found.digest:
            return path.parent, record
    by_hand = BY_HAND.format(tag=tag, digest=found.digest[:12])
    raise EvidenceError(f"{found.name}: {why}; {by_hand}")


def _judged(record: ReportData) -> str | None:
    """Return the digest of the bundle that a run measured."""
    from pipeline.measure.measurements import CANDIDATE

    return record.measurements.models[CANDIDATE].digest if record.measurements else None


def check_verdict(record: ReportData, found: Bundle, places: list[str]) -> None:
    """Raise EvidenceError where a verdict that did not fail is no pass either.

    ``places``: what is to be moved, a tag here and a remote's. All budgets of a first release may
    be against the very tag that it founds: then there is none to judge.
    """
    from pipeline.errors import EvidenceError

    judged = record.verdict
    assert judged is not None
    why = None
    if judged.evidence:
        why = judged.evidence[0]
    elif judged.outcome != "pass":
        open_ones = [b.reason for b in judged.budgets if b.outcome == judged.outcome]
        why = f"the verdict is {judged.outcome}: {open_ones[0]}"
    elif not judged.budgets and not any(_as_measured(record, place) for place in places):
        why = "no budget was judged"
    if why is not None:
        tag = places[0]
        by_hand = BY_HAND.format(tag=tag, digest=found.digest[:12])
        raise EvidenceError(f"{found.name}: {why}; {tag!r} stays where it is; {by_hand}")


def check_newest(record: ReportData, found: Bundle, home: Home, tag: str) -> None:
    """Raise where the history has a newer verdict of the recipe on this bundle that is no pass.

    BudgetError where that one missed a budget, EvidenceError where it is inconclusive.
    """
    from pipeline import history
    from pipeline.errors import BudgetError, EvidenceError

    past = history.History(home.path / history.FILE)
    newest = past.verdicts(record.name, limit=1, bundle=found.digest)
    if not newest or newest[0].standing == "pass" or newest[0].time < record.created:
        return
    (latest,) = newest
    error = BudgetError if latest.standing == "fail" else EvidenceError
    raise error(
        f"{found.name}: the newest verdict on it is {latest.standing} ({latest.command}, "
        f"{latest.time}); {tag!r} stays where it is"
    )


def check_unmoved_since(record: ReportData, baseline: str, tag: str, now: str | None) -> None:
    """Raise EvidenceError where a run was compared with ``baseline``, and that has moved since."""
    from pipeline.errors import EvidenceError

    assert record.measurements is not None
    name = _as_measured(record, baseline)
    if name is None:
        return
    then = record.measurements.baselines.get(name)
    if then != now and now != _judged(record):
        was, now_at = (digest[:12] if digest else "nothing" for digest in (then, now))
        raise EvidenceError(
            f"measured against {was}, but {baseline} is {now_at} now: run again; {tag!r} stays"
        )


def _as_measured(record: ReportData, baseline: str) -> str | None:
    """Return what the run calls a tag that it was compared with; None for any other.

    A remote's URL may be spelt in several ways.
    """
    from pipeline import remote

    assert record.measurements is not None
    names = [*record.measurements.baselines, *record.absent]
    if remote.REMOTE_TAG not in baseline:
        return baseline if baseline in names else None
    there = remote.place(baseline)
    urls = [name for name in names if remote.REMOTE_TAG in name]
    return next((name for name in urls if remote.place(name) == there), None)


def whole(store: Store, found: Bundle) -> Artifact:
    """Return the bundle in the store, hashed; one that only a folder holds is taken over.

    Raises IntegrityError for damage.
    """
    import shutil

    from pipeline.errors import IntegrityError
    from pipeline.store import REMEDY

    artifact = found.artifact
    if artifact.digest in store.digests():
        if problems := store.verify(artifact.digest):
            raise IntegrityError(f"artifact {artifact.short} is damaged: {problems[0]}; {REMEDY}")
        return store.open(artifact.digest)
    with store.draft() as draft:
        for entry in artifact.manifest.files:
            (draft / entry.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found.directory / entry.path, draft / entry.path)
        return store.adopt(draft, artifact.manifest, artifact.run_record())


def _told(tag: str, digest: str, before: str | None) -> str:
    if before == digest:
        return f"{tag} is {digest[:12]} already"
    return f"{tag} -> {digest[:12]}" + (f" (was {before[:12]})" if before else "")
