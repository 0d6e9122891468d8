"""The content-addressed store: artifacts by digest, results by fingerprint, names by tag.

Layout, below the store's root::

    store.json                        {"schema": 1}
    artifacts/sha256/<digest>/        the files, manifest.json, run.json
    fingerprints/<fingerprint>.json   {"digest": …}: the artifact that this work produced
    tags/<name>.json                  {"digest": …, "time": …}
    notes/<key>.json                  derived facts that can be recomputed, e.g. a data summary
    work/<fingerprint>/               progress of an unfinished stage, kept if it is killed
    tmp/<id>/                         drafts that are not published yet
    locks/                            flock files; the kernel releases them when a process exits

A crash at any point leaves either nothing or a complete artifact: a draft is hashed and synced in
``tmp``, its digest is recorded under its fingerprint, and a single rename makes it visible. (A
fingerprint without its artifact is ignored. If it were written last, a crash between the two steps
would lose finished work.)
"""

from __future__ import annotations

import errno
import fcntl
import json
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.store import disk
from pipeline.store.artifact import MANIFEST, RUN, Artifact, Manifest
from pipeline.store.tags import ANY, Tag, Why, check_name, check_unmoved, moved, parse
from pipeline.terms.digests import file_sha256
from pipeline.terms.errors import IntegrityError, RecipeError
from pipeline.terms.vocabulary import NAME

SCHEMA = 1
REMEDY = "remove it with `rarefy artifact gc --damaged --yes`, and the next run rebuilds it"
_HEX = set("0123456789abcdef")


@dataclass(frozen=True)
class Garbage:
    """A directory that ``gc`` would delete, its size in bytes, and the reason."""

    path: Path
    size: int
    reason: str


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
    def lock(self, name: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold an exclusive lock across processes; call ``waiting`` if another process holds it."""
        with (self.root / "locks" / name).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

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
                (self.root / "locks" / f"draft-{identifier}").unlink(missing_ok=True)

    def work(self, fingerprint: str) -> Path:
        """Return the directory where an unfinished stage keeps its progress if it is killed."""
        path = self.root / "work" / fingerprint
        with disk.speaking(self.root):
            path.mkdir(exist_ok=True)
        return path

    def publish(
        self, directory: Path, manifest: Manifest, run: dict[str, Any], *, lasts: bool = True
    ) -> Artifact:
        """Move a draft into the store and record its fingerprint; a rename makes it visible.

        If ``lasts`` is False, the fingerprint is not recorded, so the next run repeats the work.
        Raises ProviderError if the disk is full.
        """
        fingerprint = manifest.stage.fingerprint
        with disk.speaking(self.root):
            self._seal(directory, manifest, run)
            if lasts:
                entry = self.root / "fingerprints" / f"{fingerprint}.json"
                disk.write(entry, {"digest": manifest.digest})
            self._place(directory, manifest.digest)
        shutil.rmtree(self.root / "work" / fingerprint, ignore_errors=True)
        return Artifact(self._directory(manifest.digest), manifest, manifest.digest)

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
        return Artifact(self._directory(manifest.digest), manifest, manifest.digest)

    def _seal(self, directory: Path, manifest: Manifest, run: dict[str, Any]) -> None:
        """Write a draft's manifest and run record, and flush all files to disk."""
        (directory / MANIFEST).write_bytes(manifest.canonical())
        (directory / RUN).write_text(json.dumps(run, indent=1, sort_keys=True))
        for path in directory.rglob("*"):
            disk.sync(path)
        disk.sync(directory)

    def _place(self, directory: Path, digest: str) -> None:
        """Rename a sealed draft to its final path, replacing a damaged copy of the artifact."""
        final = self._directory(digest)
        if final.exists() and self.verify(digest):
            self.discard(Garbage(final, 0, "damaged"))
        try:
            directory.rename(final)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        disk.sync(final.parent)

    # Reading

    def lookup(self, fingerprint: str) -> Artifact | None:
        """Return the artifact of finished work. Returns None if there is no cache hit.

        Raises IntegrityError if the artifact exists but is truncated or changed.
        """
        path = self.root / "fingerprints" / f"{fingerprint}.json"
        if not path.exists():
            return None
        digest = disk.read(path, "digest")
        return self.open(digest) if self._directory(digest).is_dir() else None

    def open(self, reference: str) -> Artifact:
        """Open an artifact by digest, by a unique prefix of it (6 or more digits), or by tag.

        Checks the manifest and the file sizes. Raises RecipeError if there is no such artifact,
        IntegrityError if it is damaged.
        """
        digest = self.resolve(reference)
        directory = self._directory(digest)
        try:
            manifest = Manifest.model_validate_json((directory / MANIFEST).read_bytes())
        except (OSError, ValidationError):
            raise IntegrityError(
                f"artifact {digest[:12]}: its manifest is damaged; {REMEDY}"
            ) from None
        if manifest.digest != digest:
            raise IntegrityError(f"artifact {digest[:12]}: its manifest was modified; {REMEDY}")
        for entry in manifest.files:
            path = directory / entry.path
            if not path.is_file() or path.stat().st_size != entry.size:
                raise IntegrityError(
                    f"artifact {digest[:12]}: {entry.path} is missing or truncated; {REMEDY}"
                )
        return Artifact(directory, manifest, digest)

    def resolve(self, reference: str) -> str:
        """Return the digest that a tag, a digest or a unique digest prefix refers to.

        Raises RecipeError if nothing matches, or if several artifacts match the prefix.
        """
        if tag := self.find_tag(reference):
            return tag.digest
        matches = []
        if len(reference) == 64 and set(reference) <= _HEX and self._directory(reference).is_dir():
            matches = [reference]
        elif len(reference) >= 6 and set(reference) <= _HEX:
            matches = [d for d in self.digests() if d.startswith(reference)]
        if not matches:
            raise RecipeError(f"{reference}: no such artifact or tag in {self.root}")
        if len(matches) > 1:
            raise RecipeError(
                f"{reference}: {len(matches)} artifacts match this prefix; give more digits"
            )
        return matches[0]

    def digests(self) -> list[str]:
        """Return the digests of all artifacts, sorted."""
        return sorted(path.name for path in (self.root / "artifacts" / "sha256").iterdir())

    def verify(self, digest: str) -> list[str]:
        """Hash every file again and return the problems found, an empty list if there are none."""
        try:
            artifact = self.open(digest)
        except IntegrityError as error:
            return [str(error)]
        problems = [
            f"{entry.path}: the content has changed since it was published"
            for entry in artifact.manifest.files
            if file_sha256(artifact.directory / entry.path) != entry.sha256
        ]
        listed = {entry.path for entry in artifact.manifest.files} | {MANIFEST, RUN}
        for path in artifact.directory.rglob("*"):
            name = path.relative_to(artifact.directory).as_posix()
            if path.is_file() and name not in listed:
                problems.append(f"{name}: not listed in the manifest")
        return problems

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
        invalid.
        """
        check_name(name)
        with disk.speaking(self.root), self.lock(f"tag-{name}"):
            current = self.find_tag(name)
            check_unmoved(name, current, expect)
            if current is not None and current.digest == digest:
                return current
            tag = moved(current, digest, why, run, verdict)
            value = tag.model_dump(mode="json", by_alias=True)
            disk.write(self.root / "tags" / f"{name}.json", value)
        return tag

    def untag(self, name: str) -> None:
        """Remove a tag and its history. Raises RecipeError if it does not exist."""
        path = self.root / "tags" / f"{name}.json"
        if not NAME.fullmatch(name) or not path.exists():
            raise RecipeError(f"there is no tag {name!r}")
        path.unlink()

    def tags(self) -> dict[str, str]:
        """Return a mapping of tag name -> digest."""
        return {name: tag.digest for name, tag in self._tags().items()}

    def find_tag(self, name: str) -> Tag | None:
        """Return a tag with its history. Returns None if it does not exist."""
        path = self.root / "tags" / f"{name}.json"
        if not NAME.fullmatch(name) or not path.is_file():
            return None
        return parse(path.read_bytes(), str(path))

    def _tags(self) -> dict[str, Tag]:
        paths = sorted((self.root / "tags").glob("*.json"))
        return {path.stem: parse(path.read_bytes(), str(path)) for path in paths}

    def note(self, key: str) -> Any:
        """Return a saved derived fact. Returns None if it is missing or unreadable."""
        try:
            return json.loads((self.root / "notes" / f"{key}.json").read_text())
        except (OSError, ValueError):
            return None

    def keep_note(self, key: str, value: Any) -> None:
        """Save a derived fact; ``key`` must identify everything it depends on."""
        with disk.speaking(self.root):
            disk.write(self.root / "notes" / f"{key}.json", value)

    # Garbage

    def garbage(self, *, days: float, damaged: bool = False) -> list[Garbage]:
        """Find what can be deleted, without deleting it.

        These are artifacts older than ``days`` that no tag reaches or can be rolled back to, drafts
        of dead processes, and old progress of unfinished stages. With ``damaged``, find only the
        artifacts that fail verification.
        """
        unneeded = []
        kept = set().union(*(tag.kept for tag in self._tags().values()))
        needed = set() if damaged else self._reachable(kept)
        horizon = time.time() - days * 86400
        for digest in self.digests():
            path = self._directory(digest)
            if damaged and (problems := self.verify(digest)):
                unneeded.append(Garbage(path, _size(path), f"damaged: {problems[0]}"))
            elif not damaged and digest not in needed and path.stat().st_mtime < horizon:
                unneeded.append(Garbage(path, _size(path), "not needed by any tag"))
        if not damaged:
            for path in (self.root / "tmp").iterdir():
                if not self._held(f"draft-{path.name}"):
                    unneeded.append(Garbage(path, _size(path), "draft of a dead process"))
            for path in (self.root / "work").iterdir():
                if path.stat().st_mtime < horizon and not self._held(path.name):
                    unneeded.append(Garbage(path, _size(path), "unfinished work"))
        return unneeded

    def discard(self, garbage: Garbage) -> None:
        """Delete one directory of garbage: move it away with one rename, then delete its files."""
        doomed = self.root / "tmp" / uuid.uuid4().hex
        try:
            garbage.path.rename(doomed)
        except FileNotFoundError:
            return  # another process deleted it
        shutil.rmtree(doomed, ignore_errors=True)

    def _reachable(self, digests: Iterable[str]) -> set[str]:
        """Return the digests and all their ancestors. Raises IntegrityError if one is damaged.

        The parents of an artifact with a damaged manifest are unknown, so nothing may be deleted.
        """
        seen: set[str] = set()
        todo = list(digests)
        while todo:
            digest = todo.pop()
            if digest in seen or not self._directory(digest).is_dir():
                continue
            seen.add(digest)
            todo += [parent.digest for parent in self.open(digest).manifest.parents]
        return seen

    def _held(self, lock: str) -> bool:
        path = self.root / "locks" / lock
        if not path.exists():
            return False
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    def _directory(self, digest: str) -> Path:
        return self.root / "artifacts" / "sha256" / digest


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
