"""The content-addressed store: artifacts by digest, results by fingerprint, names by tag.

Layout, below the store's root::

    store.json                        {"schema": 1}
    artifacts/sha256/<digest>/        the files, manifest.json, run.json
    fingerprints/<fingerprint>.json   {"digest": …}: the artifact that this work produced
    tags/<name>.json                  {"digest": …, "time": …}
    time.json                         the last time that ``now`` gave
    notes/<key>.json                  derived facts that can be recomputed, e.g. a data summary
    work/<fingerprint>/               progress of an unfinished stage, kept if it is killed
    tmp/<id>/                         drafts that are not published yet
    leases/<id>/                      digests that a living process uses
    locks/                            lock files; the kernel releases them when a process exits

A crash at any point leaves either nothing or a complete artifact: a draft is hashed and synced in
``tmp``, its digest is recorded under its fingerprint, and a single rename makes it visible. (A
fingerprint without its artifact is ignored. If it were written last, a crash between the two steps
would lose finished work.) The files of a published artifact are read-only.

Whoever decides which artifacts exist holds the **guard** for a moment, one lock of the store:
publishing, tagging, taking an artifact into use, and each single deletion of ``gc``. A process that
uses an artifact for longer holds a ``Lease`` on it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock

from rarefy.pipeline.store import disk, locks
from rarefy.pipeline.store.artifact import MANIFEST, RUN, Artifact, Manifest
from rarefy.pipeline.store.tags import (
    ANY,
    Tag,
    Why,
    check_name,
    check_unmoved,
    moved,
    parse,
    unknown,
)
from rarefy.pipeline.terms import json_text
from rarefy.pipeline.terms.digests import file_sha256, is_beginning, is_sha256
from rarefy.pipeline.terms.errors import IntegrityError, ProviderError, RecipeError
from rarefy.pipeline.terms.recipe_parts import NAME

LEASES = "leases"

CLOCK = "time.json"
TICK = timedelta(milliseconds=1)
SCHEMA = 1
GUARD = "store"
"""The lock of the guard: who holds it decides which artifacts exist and where tags point."""
REMEDY = "remove it with `rarefy artifact gc --damaged --yes`, and the next run rebuilds it"


class Lease:
    """The artifacts that this process uses, until it closes the lease, forgets it or ends.

    It is a folder ``leases/<id>`` with one empty file per digest, and a lock ``locks/lease-<id>``
    that the process holds for as long as it lives. The lock is taken before the folder is made, so
    a folder whose lock is free belongs to a dead process: a SIGKILL ends a lease like ``close``
    does, and ``gc`` removes what is left of it. Nobody waits for a lease, so a run may train for
    hours.
    """

    def __init__(self, root: Path) -> None:
        identifier = uuid.uuid4().hex
        self._folder = root / LEASES / identifier
        file = lease_lock(root, identifier)
        lock = locks.take(file)
        with disk.speaking(root):
            self._folder.mkdir(parents=True)
        self.close = weakref.finalize(self, _end_lease, self._folder, lock, file, os.getpid())
        """End the lease; ``gc`` may then delete what it protected."""

    def add(self, digest: str) -> None:
        """Protect an artifact. The caller holds the store's guard, so it cannot vanish now."""
        (self._folder / digest).touch()


def lease_lock(root: Path, identifier: str) -> Path:
    """Return the lock that the process with this lease holds."""
    return root / "locks" / f"lease-{identifier}"


def leased(root: Path) -> set[str]:
    """Return the digests that living processes use."""
    digests: set[str] = set()
    for folder in _lease_folders(root):
        with locks.if_free(lease_lock(root, folder.name)) as dead:
            if not dead:
                with suppress(FileNotFoundError):  # it has just been closed
                    digests.update(path.name for path in folder.iterdir())
    return digests


def sweep_leases(root: Path) -> None:
    """Remove the leases of dead processes."""
    for folder in _lease_folders(root):
        lock = lease_lock(root, folder.name)
        with locks.if_free(lock) as dead:
            if dead:
                shutil.rmtree(folder, ignore_errors=True)
                locks.discard(lock)


def _lease_folders(root: Path) -> list[Path]:
    place = root / LEASES
    return list(place.iterdir()) if place.is_dir() else []


def _end_lease(folder: Path, lock: FileLock, file: Path, owner: int) -> None:
    if os.getpid() != owner:
        return  # a forked child ends; its parent still uses the lease
    shutil.rmtree(folder, ignore_errors=True)
    locks.discard(file)
    lock.release()


Clock = Callable[[], datetime]


def wall() -> datetime:
    """Return what this machine's clock says."""
    return datetime.now(UTC)


def next_time(root: Path, clock: Clock) -> datetime:
    """Return the clock's time, or the next after the store's last; the caller holds its guard.

    So what is later in a store is later whatever the clock said. It is a hybrid logical clock
    (Kulkarni et al. 2014, "Logical physical clocks"): the wall clock, but at least a millisecond
    after the last time that the store gave. If the clock was ahead for a while, times go on from
    there, a millisecond each, until it has caught up.

    If the file with the last time is missing or damaged, the clock alone decides.
    """
    path = root / CLOCK
    time = clock()
    with suppress(OSError, IntegrityError, ValueError, TypeError, OverflowError):
        last = datetime.fromisoformat(disk.read(path, "last"))
        time = max(time, last + TICK)
    disk.write(path, {"last": time.isoformat(timespec="microseconds")})
    return time


class Store:
    """A store in a directory, which is created if it does not exist.

    Raises IntegrityError if a newer version of rarefy wrote it, or its marker file is damaged.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        with disk.speaking(self.root):
            for name in (
                "artifacts/sha256",
                "fingerprints",
                "tags",
                "notes",
                "work",
                "tmp",
                "locks",
            ):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            marker = self.root / "store.json"
            if not marker.exists():
                disk.write(marker, {"schema": SCHEMA})
        schema = disk.read(marker, "schema")
        if not isinstance(schema, int):
            content = json.dumps({"schema": SCHEMA})
            raise IntegrityError(f"{marker}: the file is damaged; it should contain {content}")
        if schema > SCHEMA:
            raise IntegrityError(
                f"{self.root}: the store has schema {schema}, but this version of rarefy supports "
                f"only {SCHEMA}; upgrade rarefy or choose another folder with --home"
            )

    # Publishing

    @contextmanager
    def lock(self, name: str, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold an exclusive lock across processes; call ``waiting`` if another process holds it."""
        with locks.held(self.lock_file(name), waiting):
            yield

    def lock_file(self, name: str) -> Path:
        """Return the file that ``lock(name)`` locks."""
        return self.root / "locks" / name

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Decide alone, for a moment, which artifacts exist and where tags point.

        Not reentrant. Turns errors about a full disk or missing permission into a ProviderError.
        """
        with disk.speaking(self.root), self.lock(GUARD):
            yield

    def now(self, clock: Clock = wall) -> datetime:
        """Return the time, later than any that this store gave before; see ``order``."""
        with self.guard():
            return next_time(self.root, clock)

    def lease(self) -> Lease:
        """Return a new lease, with which this process protects what it uses from ``gc``."""
        return Lease(self.root)

    def use(self, digest: str, lease: Lease | None = None) -> bool:
        """Take an artifact into use; return False if the store does not have it (any more).

        Its age starts again, and ``gc`` leaves it alone as long as the lease is held.
        """
        with self.guard():
            directory = self.directory(digest)
            if not directory.is_dir():
                return False
            os.utime(directory)
            if lease is not None:
                lease.add(digest)
        return True

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """Yield an empty directory on the store's disk; remove it at the end if not published.

        A lock tells ``gc`` that a running process still writes to the directory.
        """
        identifier = uuid.uuid4().hex
        directory = self.root / "tmp" / identifier
        with self.lock(f"draft-{identifier}"), disk.speaking(self.root):
            directory.mkdir()
            try:
                yield directory
            finally:
                shutil.rmtree(directory, ignore_errors=True)
                locks.discard(self.lock_file(f"draft-{identifier}"))

    def work(self, fingerprint: str, *, resume: bool = True) -> Path:
        """Return the directory where an unfinished stage keeps its progress if it is killed.

        Without ``resume``, what an earlier attempt left there is deleted.
        """
        path = self.root / "work" / fingerprint
        if not resume:
            shutil.rmtree(path, ignore_errors=True)
        with disk.speaking(self.root):
            path.mkdir(exist_ok=True)
        return path

    def publish(
        self,
        directory: Path,
        manifest: Manifest,
        run: dict[str, Any],
        *,
        lasts: bool = True,
        lease: Lease | None = None,
    ) -> Artifact:
        """Move a draft into the store and record its fingerprint; a rename makes it visible.

        If ``lasts`` is False, the fingerprint is not recorded, so the next run repeats the work.
        ``lease`` protects the artifact from the start. Raises ProviderError if the disk is full.
        """
        fingerprint = manifest.stage.fingerprint
        with disk.speaking(self.root):
            self._seal(directory, manifest, run)
            if lasts:
                entry = self.root / "fingerprints" / f"{fingerprint}.json"
                disk.write(entry, {"digest": manifest.digest})
        self._place(directory, manifest.digest, lease)
        shutil.rmtree(self.root / "work" / fingerprint, ignore_errors=True)
        return Artifact(self.directory(manifest.digest), manifest, manifest.digest)

    def adopt(self, directory: Path, manifest: Manifest, run: dict[str, Any]) -> Artifact:
        """Move a draft that holds another store's artifact into this store.

        Its fingerprint is not recorded: only work done in this store counts as a cache hit.
        Raises IntegrityError if the files do not match the manifest.
        """
        for entry in manifest.files:
            path = directory / entry.path
            if not path.is_file() or file_sha256(path) != entry.sha256:
                raise IntegrityError(
                    f"artifact {manifest.digest[:12]}: {entry.path} does not match its manifest; "
                    "nothing was imported"
                )
        with disk.speaking(self.root):
            self._seal(directory, manifest, run)
        self._place(directory, manifest.digest)
        return Artifact(self.directory(manifest.digest), manifest, manifest.digest)

    def _seal(self, directory: Path, manifest: Manifest, run: dict[str, Any]) -> None:
        """Complete a draft, flush it to disk, and make its files read-only."""
        for name in (MANIFEST, RUN):  # read-only if an earlier attempt was stopped in here
            (directory / name).unlink(missing_ok=True)
        (directory / MANIFEST).write_bytes(manifest.canonical())
        (directory / RUN).write_text(json.dumps(run, indent=1, sort_keys=True))
        for path in directory.rglob("*"):
            disk.seal(path, like=directory / MANIFEST) if path.is_file() else disk.sync(path)
        disk.sync(directory)

    def _place(self, directory: Path, digest: str, lease: Lease | None = None) -> None:
        """Rename a sealed draft to its final path, replacing a damaged copy of the artifact."""
        final = self.directory(digest)
        with self.guard():
            if lease is not None:
                lease.add(digest)
            if final.exists() and self.verify(digest):
                shutil.rmtree(self.hide(final), ignore_errors=True)
            if final.exists():
                os.utime(final)
            else:
                directory.rename(final)
            disk.sync(final.parent)

    def hide(self, path: Path) -> Path:
        """Move a folder of the store away with one rename; return where its files can be deleted.

        The caller holds the lock of those who use the folder.
        """
        doomed = self.root / "tmp" / uuid.uuid4().hex
        path.rename(doomed)
        return doomed

    # Reading

    def lookup(self, fingerprint: str) -> Artifact | None:
        """Return the artifact of finished work. Returns None if there is no cache hit.

        Raises IntegrityError if the artifact exists but is truncated or changed.
        """
        path = self.root / "fingerprints" / f"{fingerprint}.json"
        if not path.exists():
            return None
        digest = disk.read(path, "digest")
        if not isinstance(digest, str) or not is_sha256(digest):
            raise IntegrityError(f"{path}: the file is damaged; delete it")
        try:
            return self.open(digest)
        except RecipeError:
            return None

    def open(self, reference: str) -> Artifact:
        """Open an artifact by digest, by a unique prefix of it (6 or more digits), or by tag.

        Checks the manifest and the file sizes. Raises RecipeError if there is no such artifact,
        IntegrityError if it is damaged, NewerError if a newer version of rarefy made it, and
        ProviderError if this user may not read it.
        """
        digest = self.resolve(reference)
        directory = self.directory(digest)
        try:
            return _open(directory, digest)
        except IntegrityError:
            if directory.is_dir():
                raise
            raise self._unknown(reference) from None  # it was deleted while it was read

    def resolve(self, reference: str) -> str:
        """Return the digest that a tag, a digest or a unique digest prefix refers to.

        Raises RecipeError if nothing matches, or if several artifacts match the prefix.
        """
        tag = self.find_tag(reference)
        if tag is not None:
            return tag.digest
        matches = []
        if is_sha256(reference):
            matches = [reference] if self.directory(reference).is_dir() else []
        elif is_beginning(reference):
            matches = [digest for digest in self.digests() if digest.startswith(reference)]
        if not matches:
            raise self._unknown(reference)
        if len(matches) > 1:
            raise RecipeError(
                f"{reference}: {len(matches)} artifacts match this prefix; give more digits"
            )
        return matches[0]

    def bring(self, digest: str) -> None:
        """Make sure that an artifact's files are here; nothing to do if a store has no remote."""

    def _unknown(self, reference: str) -> RecipeError:
        return unknown(reference, self.find_tag(reference), self.root)

    def digests(self) -> list[str]:
        """Return the digests of all artifacts, sorted; other files in that folder are ignored."""
        names = (path.name for path in (self.root / "artifacts" / "sha256").iterdir())
        return sorted(filter(is_sha256, names))

    def verify(self, digest: str) -> list[str]:
        """Hash every file again and return the problems found, an empty list if there are none.

        Raises RecipeError if there is no such artifact, NewerError if a newer version of rarefy
        made it, ProviderError if this user may not read it.
        """
        try:
            return self._changes(self.open(digest))
        except IntegrityError as error:
            return [str(error)]

    def check(self, digest: str) -> None:
        """Hash every file of an artifact again. Raises IntegrityError if one is damaged."""
        artifact = self.open(digest)
        problems = self._changes(artifact)
        if problems:
            stage = artifact.manifest.stage.name
            raise IntegrityError(
                f"artifact {artifact.short} ({stage}) is damaged: {problems[0]}; {REMEDY}"
            )

    def _changes(self, artifact: Artifact) -> list[str]:
        try:
            return _changes(artifact)
        except FileNotFoundError:
            raise self._unknown(artifact.digest) from None  # it was deleted while it was read

    # Tags and notes

    def tag(
        self,
        name: str,
        digest: str,
        *,
        expect: str | None = ANY,
        why: Why = "tag",
        run: str | None = None,
        verdict: str | None = None,
    ) -> Tag:
        """Point a tag at an artifact and add the move to the tag's history.

        ``expect`` is the digest that the tag must point at now, or None if it must not exist yet.
        Raises EvidenceError if the tag was moved in the meantime, RecipeError if the name is
        invalid or the artifact is not in this store, IntegrityError if it is damaged.
        """
        check_name(name)
        with self.guard():
            self.open(digest)
            current = self.find_tag(name)
            check_unmoved(name, current, expect)
            if current is not None and current.digest == digest:
                return current
            tag = moved(current, digest, why, run, verdict)
            self._write_tag(name, tag)
        return tag

    def restore(self, name: str, moved_to: Tag) -> bool:
        """Take back the newest move of a tag ``moved_to``; return False if it moved on since.

        The tag as its mover saw it may be older than that: others may have moved it away and back.
        """
        with self.guard():
            if self.find_tag(name) != moved_to:
                return False
            if before := moved_to.previous:
                self._write_tag(name, before)
            else:
                disk.remove(self._tag_file(name))
        return True

    def untag(self, name: str) -> None:
        """Remove a tag and its history. Raises RecipeError if it does not exist."""
        with self.guard():
            path = self._tag_file(name)
            if not NAME.fullmatch(name) or not path.exists():
                raise RecipeError(f"there is no tag {name!r}")
            disk.remove(path)

    def tags(self) -> dict[str, str]:
        """Return a mapping of tag name -> digest."""
        return {name: tag.digest for name, tag in self.all_tags().items()}

    def find_tag(self, name: str) -> Tag | None:
        """Return a tag with its history. Returns None if it does not exist."""
        if not NAME.fullmatch(name):
            return None
        path = self._tag_file(name)
        try:
            data = path.read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            return None
        except PermissionError as error:
            raise _unreadable(path, error) from error
        return parse(data, str(path))

    def all_tags(self) -> dict[str, Tag]:
        """Return a mapping of tag name -> tag with its history."""
        names = sorted(path.stem for path in (self.root / "tags").glob("*.json"))
        tags = {}
        for name in names:
            tag = self.find_tag(name)
            if tag is not None:
                tags[name] = tag
        return tags

    def _tag_file(self, name: str) -> Path:
        return self.root / "tags" / f"{name}.json"

    def _write_tag(self, name: str, tag: Tag) -> None:
        disk.write_text(self._tag_file(name), tag.file().decode())

    def note(self, key: str, form: Any = Any) -> Any:
        """Return a saved derived fact. Returns None if it is missing or damaged.

        ``form``: the type that it must have; see ``json_text``.
        """
        try:
            return json_text.ours(self.root / "notes" / f"{key}.json", form)
        except (OSError, IntegrityError, ProviderError):
            return None

    def keep_note(self, key: str, value: Any) -> None:
        """Save a derived fact; ``key`` must identify everything it depends on."""
        with disk.speaking(self.root):
            disk.write(self.root / "notes" / f"{key}.json", value)

    def directory(self, digest: str) -> Path:
        """Return where an artifact is, or would be."""
        return self.root / "artifacts" / "sha256" / digest


def _open(directory: Path, digest: str) -> Artifact:
    """Return the artifact in a directory, after checking its manifest and the files' sizes.

    Raises IntegrityError if they are wrong, NewerError if a newer version of rarefy made the
    artifact, and ProviderError if this user may not read it.
    """
    name = f"artifact {digest[:12]}"
    try:
        content = json_text.content(directory / MANIFEST)
        manifest = Manifest.parse(content, name)
    except PermissionError as error:
        raise _unreadable(directory / MANIFEST, error) from error
    except (OSError, ValueError):
        raise IntegrityError(f"{name}: its manifest is damaged; {REMEDY}") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise IntegrityError(f"{name}: its manifest was modified; {REMEDY}")
    for entry in manifest.files:
        path = directory / entry.path
        if not path.is_file() or path.stat().st_size != entry.size:
            raise IntegrityError(f"{name}: {entry.path} is missing or truncated; {REMEDY}")
    return Artifact(directory, manifest, digest)


def _changes(artifact: Artifact) -> list[str]:
    """Hash every file again; return how the files differ from the manifest.

    Raises FileNotFoundError if a file has vanished since the artifact was opened, ProviderError if
    this user may not read one.
    """
    problems = []
    for entry in artifact.manifest.files:
        path = artifact.directory / entry.path
        try:
            changed = file_sha256(path) != entry.sha256
        except PermissionError as error:
            raise _unreadable(path, error) from error
        if changed:
            problems.append(f"{entry.path}: the content has changed since it was published")
    listed = {MANIFEST, RUN, *(entry.path for entry in artifact.manifest.files)}
    for path in artifact.directory.rglob("*"):
        name = path.relative_to(artifact.directory).as_posix()
        if path.is_file() and name not in listed:
            problems.append(f"{name}: not listed in the manifest")
    return problems


def _unreadable(path: Path, error: OSError) -> ProviderError:
    """Return the error of a user who may not read a file of the store."""
    return ProviderError(
        f"{path}: cannot read this file: {error.strerror}; another user owns it: get read "
        "permission for the store"
    )
