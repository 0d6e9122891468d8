"""The content-addressed store: artifacts by digest, work by fingerprint, names by tag.

Layout, below the store's root::

    store.json                        {"schema": 1}
    artifacts/sha256/<digest>/        the files, manifest.json, run.json
    fingerprints/<fingerprint>.json   {"digest": …}: the work that made an artifact
    tags/<name>.json                  {"digest": …, "time": …}
    notes/<key>.json                  derived facts that can be made again, e.g. a data summary
    work/<fingerprint>/               what an unfinished stage keeps over a kill
    tmp/<id>/                         drafts that are not published yet
    locks/                            flock files; the kernel frees them when a process dies

A crash at any instruction leaves nothing or a whole artifact: a draft is hashed and synced in
``tmp``, its digest is noted under its fingerprint, and one rename into place makes it seen. (An
entry whose artifact is not there says nothing; were it written last, a kill between the two would
lose finished work.)
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.artifact import MANIFEST, RUN, Artifact, Manifest, file_sha256
from pipeline.errors import IntegrityError, ProviderError, RecipeError
from pipeline.recipe import NAME

SCHEMA = 1
REMEDY = "`rarefy artifact gc --damaged --yes` removes it, the next run makes it again"
_HEX = set("0123456789abcdef")
_FULL = (
    "No space left on device",
    "Disk quota exceeded",
    "PytorchStreamWriter failed writing",
    "unexpected pos",
)


@dataclass(frozen=True)
class Garbage:
    """What ``gc`` would delete: a directory, the bytes it holds, and why."""

    path: Path
    size: int
    reason: str


class Store:
    """A store in a directory, made where there is none.

    Raises IntegrityError where a newer rarefy wrote it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        with _disk(self.root):
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
                _write(marker, {"schema": SCHEMA})
        found = _read(marker, "schema")
        if not isinstance(found, int):
            raise IntegrityError(f'{marker}: damaged; it should say {{"schema": {SCHEMA}}}')
        if found > SCHEMA:
            raise IntegrityError(
                f"{self.root}: the store has schema {found}, this rarefy knows {SCHEMA}: "
                "upgrade rarefy, or name another store with --store"
            )

    # Publishing

    @contextmanager
    def lock(self, name: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold an exclusive lock between processes; ``waiting`` is called if another holds it."""
        with (self.root / "locks" / name).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """Give an empty directory on the store's disk; what was not published is removed.

        The lock beside it tells ``gc`` that a living process still writes there.
        """
        identifier = uuid.uuid4().hex
        directory = self.root / "tmp" / identifier
        with self.lock(f"draft-{identifier}"), _disk(self.root):
            directory.mkdir()
            try:
                yield directory
            finally:
                shutil.rmtree(directory, ignore_errors=True)
                (self.root / "locks" / f"draft-{identifier}").unlink(missing_ok=True)

    def work(self, fingerprint: str) -> Path:
        """Return the directory that an unfinished stage's work keeps over a kill."""
        path = self.root / "work" / fingerprint
        with _disk(self.root):
            path.mkdir(exist_ok=True)
        return path

    def publish(self, directory: Path, manifest: Manifest, run: dict[str, Any]) -> Artifact:
        """Move a draft into the store, named by its fingerprint; the rename is what makes it seen.

        Raises ProviderError where the disk is full.
        """
        digest = manifest.digest
        final = self._directory(digest)
        with _disk(self.root):
            (directory / MANIFEST).write_bytes(manifest.canonical())
            (directory / RUN).write_text(json.dumps(run, indent=1, sort_keys=True))
            for path in directory.rglob("*"):
                _sync(path)
            _sync(directory)
            entry = self.root / "fingerprints" / f"{manifest.stage.fingerprint}.json"
            _write(entry, {"digest": digest})
            if final.exists() and self.verify(digest):
                self.discard(Garbage(final, 0, "damaged"))
            try:
                directory.rename(final)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            _sync(final.parent)
        shutil.rmtree(self.root / "work" / manifest.stage.fingerprint, ignore_errors=True)
        return Artifact(final, manifest, digest)

    # Reading

    def lookup(self, fingerprint: str) -> Artifact | None:
        """Return the artifact of finished work, or None where there is none.

        Raises IntegrityError where it is there, but cut or changed.
        """
        path = self.root / "fingerprints" / f"{fingerprint}.json"
        if not path.exists():
            return None
        digest = _read(path, "digest")
        return self.open(digest) if self._directory(digest).is_dir() else None

    def open(self, reference: str) -> Artifact:
        """Open an artifact by digest, by a unique beginning of it (6 or more digits), or by tag.

        Sizes are checked. Raises RecipeError where there is none, IntegrityError for damage.
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
            raise IntegrityError(f"artifact {digest[:12]}: its manifest was changed; {REMEDY}")
        for entry in manifest.files:
            path = directory / entry.path
            if not path.is_file() or path.stat().st_size != entry.size:
                raise IntegrityError(
                    f"artifact {digest[:12]}: {entry.path} is missing or cut; {REMEDY}"
                )
        return Artifact(directory, manifest, digest)

    def resolve(self, reference: str) -> str:
        """Return the digest that a tag, a digest or its unique beginning means."""
        tag = self.root / "tags" / f"{reference}.json"
        if NAME.fullmatch(reference) and tag.is_file():
            digest: str = _read(tag, "digest")
            return digest
        found = []
        if len(reference) == 64 and set(reference) <= _HEX and self._directory(reference).is_dir():
            found = [reference]
        elif len(reference) >= 6 and set(reference) <= _HEX:
            found = [d for d in self.digests() if d.startswith(reference)]
        if not found:
            raise RecipeError(f"{reference}: no artifact and no tag of that name in {self.root}")
        if len(found) > 1:
            raise RecipeError(f"{reference}: {len(found)} artifacts begin so; give more digits")
        return found[0]

    def digests(self) -> list[str]:
        """Return the digests of all artifacts, sorted."""
        return sorted(path.name for path in (self.root / "artifacts" / "sha256").iterdir())

    def verify(self, digest: str) -> list[str]:
        """Hash every file again. Returns what is wrong, empty where all is well."""
        try:
            artifact = self.open(digest)
        except IntegrityError as error:
            return [str(error)]
        problems = [
            f"{entry.path}: its bytes are not those that were published"
            for entry in artifact.manifest.files
            if file_sha256(artifact.directory / entry.path) != entry.sha256
        ]
        listed = {entry.path for entry in artifact.manifest.files} | {MANIFEST, RUN}
        for path in artifact.directory.rglob("*"):
            name = path.relative_to(artifact.directory).as_posix()
            if path.is_file() and name not in listed:
                problems.append(f"{name}: not in the manifest")
        return problems

    # Tags and notes

    def tag(self, name: str, digest: str) -> None:
        """Point a tag at an artifact. Raises RecipeError for a name that is not allowed."""
        if not NAME.fullmatch(name):
            raise RecipeError(f"tag {name!r}: a name looks like {NAME.pattern}")
        if len(name) >= 6 and set(name) <= _HEX:
            raise RecipeError(
                f"tag {name!r} reads like the beginning of a digest; choose another name"
            )
        with _disk(self.root):
            _write(self.root / "tags" / f"{name}.json", {"digest": digest, "time": time.time()})

    def untag(self, name: str) -> None:
        """Remove a tag. Raises RecipeError where there is none."""
        path = self.root / "tags" / f"{name}.json"
        if not NAME.fullmatch(name) or not path.exists():
            raise RecipeError(f"tag {name!r}: there is none")
        path.unlink()

    def tags(self) -> dict[str, str]:
        """Return tag -> digest."""
        return {
            path.stem: _read(path, "digest") for path in sorted((self.root / "tags").glob("*.json"))
        }

    def note(self, key: str) -> Any:
        """Return a derived fact, or None."""
        try:
            return json.loads((self.root / "notes" / f"{key}.json").read_text())
        except (OSError, ValueError):
            return None

    def keep_note(self, key: str, value: Any) -> None:
        """Keep a derived fact; ``key`` must name everything it depends on."""
        with _disk(self.root):
            _write(self.root / "notes" / f"{key}.json", value)

    # Garbage

    def garbage(self, *, days: float, damaged: bool = False) -> list[Garbage]:
        """Find what nothing needs: no tag reaches it and it is older than ``days``.

        Also drafts and kept work of dead processes, and with ``damaged`` artifacts whose bytes
        do not verify. Nothing is deleted here.
        """
        found = []
        needed = set() if damaged else self._reachable(self.tags().values())
        horizon = time.time() - days * 86400
        for digest in self.digests():
            path = self._directory(digest)
            if damaged and (problems := self.verify(digest)):
                found.append(Garbage(path, _size(path), f"damaged: {problems[0]}"))
            elif not damaged and digest not in needed and path.stat().st_mtime < horizon:
                found.append(Garbage(path, _size(path), "no tag needs it"))
        if not damaged:
            for path in (self.root / "tmp").iterdir():
                if not self._held(f"draft-{path.name}"):
                    found.append(Garbage(path, _size(path), "a draft whose process died"))
            for path in (self.root / "work").iterdir():
                if path.stat().st_mtime < horizon and not self._held(path.name):
                    found.append(Garbage(path, _size(path), "unfinished work"))
        return found

    def discard(self, garbage: Garbage) -> None:
        """Delete one piece of garbage; it leaves its place in one step, then its bytes go."""
        grave = self.root / "tmp" / uuid.uuid4().hex
        try:
            garbage.path.rename(grave)
        except FileNotFoundError:
            return  # another process took it away
        shutil.rmtree(grave, ignore_errors=True)

    def _reachable(self, digests: Iterable[str]) -> set[str]:
        """Return the digests and all their ancestors. Raises IntegrityError for damage on the way.

        What a damaged manifest names as its parents is not known, so nothing may go then.
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


def _read(path: Path, key: str) -> Any:
    """Return one value of a JSON file of the store. Raises IntegrityError where it is damaged."""
    try:
        return json.loads(path.read_text())[key]
    except (ValueError, KeyError, TypeError):
        raise IntegrityError(f"{path}: damaged; delete this file") from None


def _write(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the whole new one."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with temporary.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _disk(root: Path) -> Iterator[None]:
    """Say a full or read-only disk in one line."""
    try:
        yield
    except Exception as error:
        if _is_full(error):
            raise ProviderError(
                f"{root}: the disk is full; nothing published is lost, run again when there is room"
            ) from error
        if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES):
            raise ProviderError(f"{root}: the store cannot be written: {error.strerror}") from error
        raise


def _is_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error: Rust and C++ say so in words (torch: in odd ones)."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(words in str(error) for words in _FULL):
            return True
        error = error.__cause__
    return False
