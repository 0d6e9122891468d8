"""Garbage collection: find what a store does not need any more, and delete it piece by piece.

Other processes run, tag and publish meanwhile. Therefore nothing is deleted because of what was
true when it was listed: each piece is looked at again under the lock that whoever uses it takes,
and that lock is held only until a rename has moved the piece away.

- An artifact: under the store's guard. A tag may have been set, a process may have taken it into
  use (``Store.use``), another may have mended it. To know what is needed, everything that is needed
  is walked; therefore one guard is held for a batch of renames.
- The progress of a stage: under that stage's lock. A draft: under the draft's lock.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rarefy.pipeline.store import disk, listing, locks
from rarefy.pipeline.store.artifact import NewerError
from rarefy.pipeline.store.store import Store, leased, sweep_leases
from rarefy.pipeline.terms.errors import IntegrityError, RecipeError

BATCH = 100
"""Artifacts moved away under one guard: a fraction of a second, for which others wait."""


@dataclass(frozen=True)
class Garbage:
    """A directory that ``gc`` would delete, its size in bytes, and the reason."""

    path: Path
    size: int
    reason: str
    kind: Literal["artifact", "draft", "work"]


class Collector:
    """Finds and deletes the garbage of a store.

    This is what no tag reaches or can be rolled back to, no living process uses and nobody has used
    for ``days``; drafts of dead processes; and old progress of unfinished stages. With ``damaged``,
    it is only the artifacts that fail verification. Artifacts of a newer version of rarefy are
    never garbage.
    """

    def __init__(self, store: Store, *, days: float, damaged: bool = False) -> None:
        self.store, self.damaged = store, damaged
        self._horizon = time.time() - days * 86400
        self._parents: dict[str, list[str]] = {}  # of what was looked at; they never change

    def find(self) -> list[Garbage]:
        """Return the garbage, without deleting it.

        Raises IntegrityError or NewerError if an artifact that is needed cannot be read: what it
        was made from is then unknown, so nothing may be deleted.
        """
        pieces = []
        needed = self.needed()
        for digest in self.store.digests():
            if reason := self._reason(digest, needed):
                path = self.store.directory(digest)
                pieces.append(Garbage(path, disk.size(path), reason, "artifact"))
        if self.damaged:
            return pieces
        sweep_leases(self.store.root)
        for path in (self.store.root / "tmp").iterdir():
            with locks.if_free(self._lock(path, "draft")) as free:
                if free:
                    pieces.append(
                        Garbage(path, disk.size(path), "draft of a dead process", "draft")
                    )
        for path in (self.store.root / "work").iterdir():
            with locks.if_free(self._lock(path, "work")) as free:
                if free and self._old(path):
                    pieces.append(Garbage(path, disk.size(path), "unfinished work", "work"))
        return pieces

    def delete(self, garbage: Garbage) -> bool:
        """Delete a piece of garbage; return False if it is needed by now or already gone."""
        return bool(self.delete_all([garbage]))

    def delete_all(self, pieces: Iterable[Garbage]) -> list[Garbage]:
        """Delete garbage; return the pieces that were neither needed by now nor already gone."""
        deleted, artifacts = [], []
        for garbage in pieces:
            if garbage.kind == "artifact":
                artifacts.append(garbage)
            elif doomed := self._take(garbage):
                remove(doomed)
                deleted.append(garbage)
        size = 1 if self.damaged else BATCH  # the guard is not held while gigabytes are hashed
        for start in range(0, len(artifacts), size):
            deleted += self._delete_artifacts(artifacts[start : start + size])
        return deleted

    def _delete_artifacts(self, batch: list[Garbage]) -> list[Garbage]:
        taken: list[tuple[Garbage, Path]] = []
        try:
            with self.store.guard():
                needed = self.needed()
                for garbage in batch:
                    path = garbage.path
                    if path.is_dir() and self._reason(path.name, needed):
                        taken.append((garbage, self.store.hide(path)))
        finally:  # also of those before one that could not be moved
            for _, doomed in taken:
                remove(doomed)
        return [garbage for garbage, _ in taken]

    def _take(self, garbage: Garbage) -> Path | None:
        lock = self._lock(garbage.path, garbage.kind)
        with locks.if_free(lock) as free:
            work = garbage.kind == "work"
            if not free or not garbage.path.exists():
                return None
            if work and not self._old(garbage.path):
                return None
            try:
                doomed = self.store.hide(garbage.path)
            except FileNotFoundError:
                return None  # another gc, which has moved it away already, has just deleted it
            if not work:  # only now: with a new lock file, another gc would find the draft free
                locks.discard(lock)
            return doomed

    def _lock(self, path: Path, kind: str) -> Path:
        return self.store.lock_file(path.name if kind == "work" else f"draft-{path.name}")

    def _reason(self, digest: str, needed: set[str]) -> str | None:
        """Return why an artifact is garbage, or None if it is not."""
        try:
            if self.damaged:
                problems = self.store.verify(digest)
                if not problems:
                    return None
                return f"damaged: {problems[0]}{self._describe_tags(digest)}"
            if digest in needed or not self._old(self.store.directory(digest)):
                return None
            with suppress(IntegrityError):
                listing.read(self.store, digest)
        except (NewerError, RecipeError):
            return None  # RecipeError: another process has just deleted it
        return "not needed by any tag"

    def _describe_tags(self, digest: str) -> str:
        """Return which tags point at an artifact, as a part of a sentence; "" if none does."""
        names = [name for name, tag in self.store.all_tags().items() if tag.digest == digest]
        if not names:
            return ""
        return f"; of the tag {', '.join(map(repr, names))}, which will point at nothing"

    def needed(self) -> set[str]:
        """Return what tags keep, with all its ancestors, and what living processes use."""
        if self.damaged:
            return set()
        protected: set[str] = set()
        for tag in self.store.all_tags().values():
            protected |= tag.protected
        return self._reachable(protected) | leased(self.store.root)

    def _reachable(self, digests: Iterable[str]) -> set[str]:
        seen: set[str] = set()
        queue = list(digests)
        while queue:
            digest = queue.pop()
            if digest in seen or not self.store.directory(digest).is_dir():
                continue
            seen.add(digest)
            if digest not in self._parents:
                try:
                    self._parents[digest] = listing.read(self.store, digest).parents
                except RecipeError:
                    continue  # another process has just deleted it
            queue += self._parents[digest]
        return seen

    def _old(self, path: Path) -> bool:
        with suppress(FileNotFoundError):
            return path.stat().st_mtime < self._horizon
        return False


def remove(doomed: Path) -> None:
    if doomed.is_dir():
        shutil.rmtree(doomed, ignore_errors=True)
    else:  # a file that somebody put there
        doomed.unlink(missing_ok=True)
