"""Promote a bundle: move a tag to it, but only if the bundle passed its budgets."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.measure.measurements import CANDIDATE
from pipeline.model import runtime
from pipeline.release import bundles, newest, published
from pipeline.release.bundles import Bundle
from pipeline.run import folder, names
from pipeline.store import disk, remote
from pipeline.store.artifact import Artifact
from pipeline.store.home import Home
from pipeline.store.remote import Remote
from pipeline.store.store import Store
from pipeline.store.tags import Tag, check_name
from pipeline.terms.errors import BudgetError, EvidenceError, RarefyError
from pipeline.terms.vocabulary import LINEAR, REMOTE_TAG
from pipeline.verdict.record import ReportData

BY_HAND = "`rarefy artifact tag {tag} {digest}` moves a tag without a verdict"


class MissedError(BudgetError):
    """The run missed budgets, so the tag does not move; ``missed`` holds a reason for each."""

    def __init__(self, message: str, digest: str, run: Path | str, missed: list[str]) -> None:
        self.digest, self.run, self.missed = digest, run, missed
        super().__init__(message)


@dataclass(frozen=True)
class Promotion:
    """A promotion: the tag, its digest now and before, the run's folder, and the remote's URL.

    The folder of a run on another machine is the address of what it left in a store.
    """

    tag: str
    digest: str
    before: str | None
    run: Path | str
    pushed: str | None

    @property
    def moved(self) -> bool:
        return self.before != self.digest


def promote(
    reference: str,
    tag: str,
    home: Home,
    url: str | None = None,
    ready: Callable[[str], object] | None = None,
) -> Promotion:
    """Point a tag at the bundle of a run (a name, its folder or a digest), if it passed.

    Of ``URL#TAG`` or ``URL#DIGEST``, the runs that left their verdict in that store count, too.

    ``url``: a remote store that also gets the bundle and the tag. ``ready``: called with the
    bundle's digest before the first tag moves; what it raises keeps the tag where it is.

    Raises MissedError if a budget was missed, EvidenceError if the verdict is not a pass, the tag
    has moved since the run was compared with it or points at a bundle for another task,
    IntegrityError if the bundle is damaged. If it raises, no tag has moved, or the message says
    which one did. After a kill, promote again: what moved already stays.
    """
    check_name(tag)
    bundle, store = bundles.find(reference, home), home.store()
    run, record = passing(bundle, home, [tag] if url is None else [tag, f"{url}#{tag}"])
    current = store.find_tag(tag)
    before = current.digest if current else None
    check_unmoved_since(record, tag, tag, before)
    check_task(bundle, tag, _task_of(store, before))
    artifact = whole(store, bundle)
    if ready is not None:
        ready(artifact.digest)
    facts: dict[str, Any] = {"why": "promote", "run": record.name, "verdict": "pass"}
    if url is None:
        store.tag(tag, artifact.digest, expect=before, **facts)
        return Promotion(tag, artifact.digest, before, run, None)
    there = remote.find_tag(url, tag)
    there_before = there.digest if there else None
    check_unmoved_since(record, f"{url}#{tag}", tag, there_before)
    check_task(bundle, f"{url}#{tag}", _task_at(url, there_before))
    remote.push(store, artifact.digest, url)
    here = store.tag(tag, artifact.digest, expect=before, **facts)
    try:
        remote.move(url, tag, artifact.digest, expect=there_before, **facts)
    except BaseException as error:
        if before != artifact.digest:
            _take_back(store, tag, here, error)
        raise
    return Promotion(tag, artifact.digest, before, run, url)


def _take_back(store: Store, tag: str, here: Tag, error: BaseException) -> None:
    """Undo the local move of a promotion that failed at the remote, or say that it stays."""
    if not store.restore(tag, here) and isinstance(error, RarefyError):
        error.args = (
            f"{error}; here {tag!r} had moved to {here.digest[:12]} and was then moved again by "
            "another process, so that move stays in its history",
        )


def passing(bundle: Bundle, home: Home, places: list[str]) -> tuple[Path | str, ReportData]:
    """Return the run, and its record, whose verdict lets tags move to a bundle.

    ``places``: the tags, the local one first. Raises MissedError or EvidenceError if there is none.
    """
    with tempfile.TemporaryDirectory(prefix="rarefy-promote-") as scratch:
        there = published.bring(bundle.name, bundle.digest, Path(scratch))
        path, record = verdict_of(bundle, home, there, places[0])
        away = path.is_relative_to(there.path)
        run = published.address(bundle.name, path) if away else path
        assert record.verdict is not None
        if record.verdict.outcome == "fail":
            message = f"{bundle.name}: missed its budgets; {places[0]!r} was not moved"
            raise MissedError(message, bundle.digest, run, record.verdict.missed)
        check_verdict(record, bundle, places)
        newest.check(record, bundle, (home, there), places)
    return run, record


def verdict_of(bundle: Bundle, home: Home, there: Home, tag: str) -> tuple[Path, ReportData]:
    """Return the folder and the record of the newest run with a verdict on this bundle.

    ``there``: the home of runs that ``published.bring`` found; they come before the others of this
    machine, because the store that the user names has them.

    Raises EvidenceError if there is none, or if the run's folder holds another run's bundle.
    """
    place = bundle.directory.parent
    named = [place / names.RECORD] if (place / names.BUNDLE).is_dir() else []
    fetched = sorted(there.runs.glob(f"*/{names.RECORD}"), reverse=True)  # named for their time
    others = sorted(home.runs.glob(f"*/{names.RECORD}"), key=disk.changed, reverse=True)
    why = "no run has a verdict on this bundle"
    if REMOTE_TAG not in bundle.name:
        why += f"; if a worker's run has left one in a store, promote URL#{bundle.digest[:12]}"
    for path in filter(Path.is_file, (*named, *fetched, *others)):
        try:
            record = folder.read(path.parent)
        except (OSError, ValueError):
            why = f"no verdict on this bundle, but {path} cannot be read; run the recipe again"
            continue
        if path in named:
            folder.check_bundle(record, path.parent)
        if record.verdict is not None and _judged(record) == bundle.digest:
            return path.parent, record
    by_hand = BY_HAND.format(tag=tag, digest=bundle.digest[:12])
    raise EvidenceError(f"{bundle.name}: {why}; {by_hand}")


def _judged(record: ReportData) -> str | None:
    """Return the digest of the bundle that a run measured; None if it measured none."""
    return record.measurements.models[CANDIDATE].digest if record.measurements else None


def check_verdict(record: ReportData, bundle: Bundle, places: list[str]) -> None:
    """Raise EvidenceError if a verdict other than "fail" is not a pass.

    ``places``: the tags to move, the local one first. If all budgets of a first release are
    against the tag that it creates, there are none to judge, and the promotion is allowed.
    """
    judged = record.verdict
    assert judged is not None
    why = None
    if judged.evidence:
        why = judged.evidence[0]
    elif judged.outcome != "pass":
        open_ones = [b.reason for b in judged.budgets if b.outcome == judged.outcome]
        why = f"the verdict is {judged.outcome}: {open_ones[0]}"
    elif all(b.against == LINEAR for b in judged.budgets) and not any(
        _as_measured(record, place) for place in places
    ):
        why = "no budget was judged"
    if why is not None:
        tag = places[0]
        by_hand = BY_HAND.format(tag=tag, digest=bundle.digest[:12])
        raise EvidenceError(f"{bundle.name}: {why}; {tag!r} was not moved; {by_hand}")


def check_unmoved_since(record: ReportData, baseline: str, tag: str, now: str | None) -> None:
    """Raise EvidenceError if ``baseline`` has moved since the run was compared with it."""
    assert record.measurements is not None
    name = _as_measured(record, baseline)
    if name is None:
        return
    then = record.measurements.baselines.get(name)
    if then != now and now != _judged(record):
        was, now_at = (digest[:12] if digest else "nothing" for digest in (then, now))
        raise EvidenceError(
            f"the run was measured against {was}, but {baseline} is {now_at} now; run again; "
            f"{tag!r} was not moved"
        )


def check_task(bundle: Bundle, tag: str, theirs: str | None) -> None:
    """Raise EvidenceError if a tag points at a bundle for another task.

    ``theirs``: the task of what it points at; None if that is no bundle, or nothing is known of it.
    """
    ours = _task(bundle.directory)
    if theirs not in (None, ours):
        raise EvidenceError(
            f"{bundle.name}: this bundle is for {ours}, but {tag!r} points at one for {theirs}; "
            "promote it to another tag"
        )


def _task_of(store: Store, digest: str | None) -> str | None:
    """Return the task of an artifact in this store."""
    known = digest is not None and digest in store.digests()
    return _task(store.open(digest).directory) if known and digest else None


def _task_at(url: str, digest: str | None) -> str | None:
    """Return the task of an artifact in another store, of which only a small file is read."""
    if digest is None:
        return None
    data = Remote.open(url).read(f"artifacts/sha256/{digest}/{runtime.SIGNATURE}")
    return None if data is None else str(json.loads(data)["task"])


def _task(directory: Path) -> str | None:
    """Return the task that a bundle is for; None if the artifact is no bundle."""
    if not (directory / runtime.SIGNATURE).is_file():
        return None
    return str(runtime.read(directory, runtime.SIGNATURE)["task"])


def _as_measured(record: ReportData, baseline: str) -> str | None:
    """Return the run's own name for a tag that it was compared with; None if it was not.

    The names can differ because a remote's URL can be written in several ways.
    """
    assert record.measurements is not None
    names = [*record.measurements.baselines, *record.absent]
    return next((name for name in names if newest.same_tag(name, baseline)), None)


def whole(store: Store, bundle: Bundle) -> Artifact:
    """Return the bundle in the store, verified; add it to the store if only a folder holds it.

    Raises IntegrityError if the bundle is damaged.
    """
    artifact = bundle.artifact
    if artifact.digest in store.digests():
        store.check(artifact.digest)
        return store.open(artifact.digest)
    bundles.check_bytes(bundle)
    with store.draft() as draft:
        for entry in artifact.manifest.files:
            (draft / entry.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.directory / entry.path, draft / entry.path)
        return store.adopt(draft, artifact.manifest, artifact.run_record())
