"""Move a tag to a bundle that passed its budgets, or back to an earlier one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rarefy.pipeline.measure.measurements import CANDIDATE
from rarefy.pipeline.model.runtime import bundle_files
from rarefy.pipeline.release import bundles, verdicts
from rarefy.pipeline.release.bundles import Bundle
from rarefy.pipeline.run import folder, names
from rarefy.pipeline.store import disk
from rarefy.pipeline.store.artifact import Artifact
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.store.remote import artifacts
from rarefy.pipeline.store.remote.artifacts import Remote
from rarefy.pipeline.store.store import Store
from rarefy.pipeline.store.tags import NoTagError, Tag, check_name
from rarefy.pipeline.terms import json_text
from rarefy.pipeline.terms.errors import (
    BudgetError,
    EvidenceError,
    IntegrityError,
    RarefyError,
    RecipeError,
)
from rarefy.pipeline.terms.recipe_parts import LINEAR, REMOTE_TAG
from rarefy.pipeline.verdict.record import ReportData

Ready = Callable[[str], object] | None
"""Called with a digest before a tag moves to it; what it raises keeps the tag where it is."""
BY_HAND = "`rarefy artifact tag {tag} {digest}` moves a tag without a verdict"


class MissedError(BudgetError):
    """The run missed budgets, so the tag does not move; ``missed`` holds a reason for each."""

    def __init__(self, message: str, digest: str, run: Path | str, missed: list[str]) -> None:
        self.digest, self.run, self.missed = digest, run, missed
        super().__init__(message)


@dataclass(frozen=True)
class Promotion:
    """A promotion: the tag, its digest now and before, the run's folder, and the remote's URL.

    The folder of a run on another machine is the address of what it left in a store. ``warned``
    has the budgets of level warn that its verdict, a pass, did not meet.
    """

    tag: str
    digest: str
    before: str | None
    run: Path | str
    pushed: str | None
    warned: tuple[str, ...] = ()

    @property
    def moved(self) -> bool:
        return self.before != self.digest


def promote(
    reference: str,
    tag: str,
    home: Home,
    url: str | None = None,
    ready: Ready = None,
) -> Promotion:
    """Point a tag at the bundle of a run, if it passed.

    If it raises, no tag has moved, or the message says which one did. After a kill, promote again:
    what moved already stays.

    Args:
        reference: a run's name or folder, a digest, or ``URL#TAG`` or ``URL#DIGEST``, for which
            the runs that left their verdict in that store count, too.
        tag: the tag that moves.
        home: the state folder with runs, store and history.
        url: a remote store that also gets the bundle and the tag.
        ready: called with the bundle's digest before the first tag moves.

    Raises:
        MissedError: if a budget was missed.
        EvidenceError: if the verdict is not a pass, the tag has moved since the run was compared
            with it, or it points at a bundle for another task.
        IntegrityError: if the bundle is damaged.
    """
    check_name(tag)
    bundle, store = bundles.find(reference, home), home.store()
    places = [tag] if url is None else [tag, f"{url}#{tag}"]
    run, record = passing(bundle, home, places)
    warned = tuple(record.verdict.warned) if record.verdict else ()
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
        return Promotion(tag, artifact.digest, before, run, None, warned)
    remote_tag = artifacts.find_tag(url, tag)
    remote_before = remote_tag.digest if remote_tag else None
    check_unmoved_since(record, f"{url}#{tag}", tag, remote_before)
    check_task(bundle, f"{url}#{tag}", _task_at(url, remote_before))
    artifacts.push(store, artifact.digest, url)
    moved = store.tag(tag, artifact.digest, expect=before, **facts)
    try:
        artifacts.move(url, tag, artifact.digest, expect=remote_before, **facts)
    except BaseException as error:
        if before != artifact.digest:
            _undo(store, tag, moved, error)
        raise
    return Promotion(tag, artifact.digest, before, run, url, warned)


def _undo(store: Store, tag: str, moved: Tag, error: BaseException) -> None:
    """Undo the local move of a promotion that failed at the remote, or say that it stays."""
    if store.restore(tag, moved) or not isinstance(error, RarefyError):
        return
    digest = moved.digest[:12]
    message = (
        f"{error}; here {tag!r} had moved to {digest} and was then moved again by another "
        "process, so that move stays in its history"
    )
    error.args = (message,)


def passing(bundle: Bundle, home: Home, places: list[str]) -> tuple[Path | str, ReportData]:
    """Return the run, and its record, whose verdict lets tags move to a bundle.

    ``places``: the tags, the local one first. Raises MissedError or EvidenceError if there is none.
    """
    with tempfile.TemporaryDirectory(prefix="rarefy-promote-") as scratch:
        fetched = verdicts.fetch(bundle.name, bundle.digest, Path(scratch))
        run: Path | str
        run, record = verdict_of(bundle, home, fetched, places[0])
        if run.is_relative_to(fetched.path):
            run = verdicts.address(bundle.name, run)
        assert record.verdict is not None
        if record.verdict.outcome == "fail":
            message = f"{bundle.name}: missed its budgets; {places[0]!r} was not moved"
            raise MissedError(message, bundle.digest, run, record.verdict.missed)
        check_verdict(record, bundle, places)
        verdicts.check_newest(record, bundle, (home, fetched), places)
    return run, record


def verdict_of(bundle: Bundle, home: Home, fetched: Home, tag: str) -> tuple[Path, ReportData]:
    """Return the folder and the record of the newest run with a verdict on this bundle.

    Args:
        bundle: the bundle that the verdict is on.
        home: the state folder of this machine.
        fetched: the home of the runs that ``verdicts.fetch`` found; they come before the others of
            this machine, because the store that the user names has them.
        tag: the tag to move, for the error's advice.

    Raises EvidenceError if there is none, or if the run's folder holds another run's bundle.
    """
    digest = bundle.digest[:12]
    why = "no run has a verdict on this bundle"
    if REMOTE_TAG not in bundle.name:
        why += f"; if a worker's run has left one in a store, promote URL#{digest}"
    its_run = bundles.run_folder(bundle.directory)
    for path in _records(home, fetched, its_run):
        try:
            record = folder.read(path.parent)
        except (OSError, ValueError):
            why = f"no verdict on this bundle, but {path} cannot be read; run the recipe again"
            continue
        if path.parent == its_run:
            folder.check_bundle(record, path.parent)
        if record.verdict is not None and _judged(record) == bundle.digest:
            return path.parent, record
    by_hand = BY_HAND.format(tag=tag, digest=digest)
    raise EvidenceError(f"{bundle.name}: {why}; {by_hand}")


def _records(home: Home, fetched: Home, first: Path | None) -> list[Path]:
    """Return the records of runs: of the folder ``first``, fetched ones, then this machine's."""
    pattern = f"*/{names.RECORD}"
    by_name = sorted(fetched.runs.glob(pattern), reverse=True)  # named for their order
    by_age = sorted(home.runs.glob(pattern), key=disk.changed, reverse=True)
    paths = [*by_name, *by_age]
    if first is not None:
        paths.insert(0, first / names.RECORD)
    return [path for path in paths if path.is_file()]


def _judged(record: ReportData) -> str | None:
    """Return the digest of the bundle that a run measured; None if it measured none."""
    if record.measurements is None:
        return None
    return record.measurements.models[CANDIDATE].digest


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
        reasons = [b.reason for b in judged.budgets if b.outcome == judged.outcome]
        why = f"the verdict is {judged.outcome}: {reasons[0]}"
    elif all(budget.against == LINEAR for budget in judged.budgets):
        was_compared = any(_as_measured(record, place) for place in places)
        why = None if was_compared else "no budget was judged"
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
    if now in (then, _judged(record)):
        return
    raise EvidenceError(
        f"the run was measured against {_short(then)}, but {baseline} is {_short(now)} now; run "
        f"again; {tag!r} was not moved"
    )


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "nothing"


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
    if digest is None or digest not in store.digests():
        return None
    return _task(store.open(digest).directory)


def _task_at(url: str, digest: str | None) -> str | None:
    """Return the task of an artifact in another store, of which only a small file is read."""
    if digest is None:
        return None
    signature = Remote.open(url).read(f"artifacts/sha256/{digest}/{bundle_files.SIGNATURE}")
    if signature is None:
        return None
    try:
        return bundle_files.check_task(json_text.shaped(dict[str, Any], signature))
    except ValueError as error:
        name = bundle_files.SIGNATURE
        short = digest[:12]
        raise IntegrityError(f"{url}: {name} of {short} is damaged: {error}") from None


def _task(directory: Path) -> str | None:
    """Return the task that a bundle is for; None if the artifact is no bundle."""
    path = directory / bundle_files.SIGNATURE
    if not path.is_file():
        return None
    values = json_text.foreign(path, dict[str, Any], IntegrityError)
    try:
        return bundle_files.check_task(values)
    except ValueError as error:
        raise IntegrityError(f"{path}: {error}") from None


def _as_measured(record: ReportData, baseline: str) -> str | None:
    """Return the run's own name for a tag that it was compared with; None if it was not.

    The names can differ because a remote's URL can be written in several ways.
    """
    assert record.measurements is not None
    for name in [*record.measurements.baselines, *record.absent]:
        if verdicts.same_tag(name, baseline):
            return name
    return None


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
            copy = draft / entry.path
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.directory / entry.path, copy)
        return store.adopt(draft, artifact.manifest, artifact.run_record())


def rollback(
    tag: str, home: Home, target: str | None = None, ready: Ready = None
) -> tuple[str, str]:
    """Move a local or remote (``URL#TAG``) tag back; return the digests before and after.

    Args:
        tag: the tag that moves.
        home: the state folder whose store has the tag, if it is a local one.
        target: the beginning of a digest in the tag's history; by default the previous one.
        ready: called with the digest to go back to, before the tag moves.

    Raises:
        RecipeError: if there is no such digest.
        IntegrityError: if its files are missing or damaged.
    """
    if REMOTE_TAG in tag:
        return _roll_back_remote(tag, target, ready)
    return _roll_back_local(tag, target, home.store(), ready)


def _roll_back_remote(tag: str, target: str | None, ready: Ready) -> tuple[str, str]:
    """Move a remote's tag back; return the digests before and after."""
    url, name = artifacts.split(tag)
    current = artifacts.find_tag(url, name)
    if current is None:
        raise NoTagError(f"no tag {name!r} in {url}", artifacts.Remote.open(url).tags())
    digest = destination(current, tag, target)
    if ready is not None:
        ready(digest)
    artifacts.move(url, name, digest, expect=current.digest, why="rollback")
    return current.digest, digest


def _roll_back_local(tag: str, target: str | None, store: Store, ready: Ready) -> tuple[str, str]:
    """Move a tag of this store back; return the digests before and after."""
    current = store.find_tag(tag)
    if current is None:
        raise NoTagError(f"{tag}: no tag in {store.root}", store.tags())
    digest = destination(current, tag, target)
    if digest not in store.digests():
        raise IntegrityError(
            f"{tag}: artifact {digest[:12]} is no longer in this store; get it from a store that "
            f"has it with `rarefy artifact pull URL#{digest[:12]}`"
        )
    store.check(digest)
    if ready is not None:
        ready(digest)
    store.tag(tag, digest, expect=current.digest, why="rollback")
    return current.digest, digest


def destination(tag: Tag, name: str, target: str | None) -> str:
    """Return the digest to go back to. Raises RecipeError if the tag's history has no such one."""
    if target is None:
        if tag.before is None:
            raise RecipeError(f"{name}: there is nothing before {tag.digest[:12]} to go back to")
        return tag.before
    past = dict.fromkeys(move.digest for move in tag.moves)
    matches = [digest for digest in past if digest.startswith(target)]
    if len(matches) != 1 or len(target) < 6:
        known = ", ".join(digest[:12] for digest in past)
        raise RecipeError(f"--artifact {target}: {name} never pointed there; it pointed at {known}")
    if matches[0] == tag.digest:
        raise RecipeError(f"--artifact {target}: {name} already points there")
    return matches[0]
