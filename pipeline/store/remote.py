"""Remotes: artifacts and tags of another store behind a URL, accessed through fsspec.

A remote is a folder with the store's layout, on ``s3://``, ``gs://``, ``az://``, ``file://`` or any
other file system that fsspec supports; ``https://`` is read-only. A push uploads an artifact's
files first, then its manifest, then the tag, so a partial upload is never visible. Before a tag
moves, the bytes there are compared with the manifest's hashes. A pull checks every file against the
manifest before it publishes the artifact locally. Ancestors are not copied, because a bundle is
self-contained.

A tag there moves by compare and swap where the service has it (``pipeline/store/swap.py``): of two
who move it at once, one is refused or sees the other's move. On a local disk, the remote is another
store, and its guard is held.

Credentials come from the environment or the provider's configuration files, never from the URL.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import known_implementations

from pipeline.store import disk, locks, swap
from pipeline.store.artifact import MANIFEST, RUN, Artifact, Manifest
from pipeline.store.store import GUARD, REMEDY, Store
from pipeline.store.tags import ANY, NoTagError, Tag, Why, check_name, check_unmoved, moved, parse
from pipeline.terms import credentials
from pipeline.terms.errors import (
    EvidenceError,
    IntegrityError,
    ProviderError,
    RarefyError,
    RecipeError,
)
from pipeline.terms.naming import misspelt
from pipeline.terms.vocabulary import REMOTE_TAG

BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl"})
"""Protocols without real folders; creating a folder there could create the bucket."""
READ_ONLY = frozenset({"http", "https"})
ATTEMPTS = 20
"""How often to try again to move a tag that others move at the same time."""
_PART = 50 * 2**20
"""Bytes. s3fs sends a file of less than two parts in one request."""
_ARTIFACTS = "artifacts/sha256"
_DIGEST = re.compile("[0-9a-f]{64}")
_BEGINNING = re.compile("[0-9a-f]{6,63}")


def split(reference: str) -> tuple[str, str]:
    """Split ``URL#REF`` into URL and reference. Raises RecipeError if either is missing."""
    url, _, name = reference.rpartition(REMOTE_TAG)
    if not url or not name:
        raise RecipeError(f"{reference}: expected URL#TAG, e.g. file:///shared/store#production")
    return url, name


def push(
    store: Store,
    digest: str,
    url: str,
    tag: str | None = None,
    *,
    expect: str | None = ANY,
    why: Why = "tag",
    run: str | None = None,
    verdict: str | None = None,
) -> int:
    """Copy an artifact to a remote and point a tag there at it; return the bytes of files sent.

    Files that the remote already has are not sent again, unless they are damaged there.

    Raises IntegrityError if the local artifact is damaged, EvidenceError if the tag was moved in
    the meantime, and RecipeError or ProviderError if the remote rejects the request.
    """
    if tag is not None:
        check_name(tag)
    artifact = store.open(digest)
    remote = Remote.open(url)
    lease = store.lease()
    store.use(digest, lease)
    if problems := store.verify(digest):
        raise IntegrityError(f"artifact {artifact.short} is damaged: {problems[0]}; {REMEDY}")
    remote.check_writable()
    sent = remote.send(artifact)
    lease.close()
    if tag is not None:
        remote.move_tag(tag, digest, expect, why, run, verdict)
    return sent


def pull(store: Store, url: str, reference: str) -> Artifact:
    """Copy an artifact from a remote, by its tag or digest there, unless the store has it already.

    Raises NoTagError if the remote has no such tag. Raises IntegrityError, and publishes nothing,
    if the files do not match the manifest.
    """
    remote = Remote.open(url)
    digest = remote.resolve(reference)
    try:
        here = store.open(digest)
        if store.use(digest):
            return here
    except (RecipeError, IntegrityError):
        pass  # missing or truncated here, so fetch it
    manifest = remote.manifest(digest)
    with store.draft() as draft:
        for entry in manifest.files:
            remote.fetch(f"{_ARTIFACTS}/{digest}/{entry.path}", draft / entry.path)
        try:
            return store.adopt(draft, manifest, remote.run_record(digest))
        except IntegrityError as error:
            raise IntegrityError(
                f"{url}: {error}; delete {_ARTIFACTS}/{digest[:12]}… there and push it again"
            ) from None


def find_tag(url: str, name: str) -> Tag | None:
    """Return a remote's tag with its history. Returns None if it does not exist."""
    return Remote.open(url).find_tag(name)


def move(
    url: str,
    name: str,
    digest: str,
    *,
    expect: str | None = ANY,
    why: Why = "tag",
    run: str | None = None,
    verdict: str | None = None,
) -> None:
    """Point a remote's tag at an artifact there, after checking that artifact's bytes.

    Raises IntegrityError if they are missing or damaged, EvidenceError if the tag was moved in the
    meantime, and RecipeError or ProviderError if the remote rejects the request.
    """
    remote = Remote.open(url)
    remote.check_writable()
    remote.move_tag(name, digest, expect, why, run, verdict)


def place(reference: str) -> str:
    """Return the normalized form that all spellings of one ``URL#TAG`` share."""
    url, name = split(reference)
    remote = Remote.open(url)
    return f"{min(remote.protocols)}:{remote.root}{REMOTE_TAG}{name}"


@dataclass(frozen=True)
class Remote:
    """A store's folder behind a URL: ``root`` is its path in the file system ``system``.

    ``_whole`` holds the digests whose bytes this object has checked.
    """

    url: str
    system: Any
    root: str
    _whole: set[str] = field(default_factory=set, compare=False)

    @classmethod
    def open(cls, url: str) -> Remote:
        """Open a remote without reading anything yet.

        Raises RecipeError if the URL is invalid. Raises ProviderError if fsspec knows the protocol
        but the package for its file system is not installed.
        """
        if not url:
            raise RecipeError("a remote needs a URL, e.g. s3://bucket/rarefy")
        if credentials.found_in(url):
            raise RecipeError(credentials.REFUSED)
        with _speaking(url):
            system, root = fsspec.url_to_fs(url)
            system.invalidate_cache()
        return cls(url, system, root.rstrip("/"))

    @property
    def protocols(self) -> set[str]:
        return swap.protocols(self.system)

    def check_writable(self) -> None:
        """Raise RecipeError if the remote is read-only or its bucket does not exist."""
        if self.protocols & READ_ONLY:
            raise RecipeError(f"{self.url}: this remote is read-only")
        self._check_place()

    def find_tag(self, name: str) -> Tag | None:
        """Return a tag with its history. Returns None if it does not exist."""
        check_name(name)
        data = self.read(f"tags/{name}.json")
        return None if data is None else parse(data, f"{self.url}/tags/{name}.json")

    def tags(self) -> list[str]:
        """Return the names of the remote's tags."""
        return [name.removesuffix(".json") for name in self.names("tags")]

    def resolve(self, reference: str) -> str:
        """Return the digest that a tag, a digest or a unique digest prefix refers to.

        Raises RecipeError if the prefix matches no artifact or several, NoTagError if the tag does
        not exist.
        """
        if _DIGEST.fullmatch(reference):
            return reference
        if _BEGINNING.fullmatch(reference):
            matches = [name for name in self.names(_ARTIFACTS) if name.startswith(reference)]
            if len(matches) == 1:
                return matches[0]
            found = f"{len(matches)} artifacts match" if matches else "no artifact matches"
            raise RecipeError(f"{self.url}#{reference}: {found} this digest prefix")
        tag = self.find_tag(reference)
        if tag is None:
            self._check_place()
            raise NoTagError(f"there is no tag {reference!r} in {self.url}", self.tags())
        return tag.digest

    def manifest(self, digest: str) -> Manifest:
        """Read an artifact's manifest.

        Raises RecipeError if the artifact does not exist, IntegrityError if the manifest is
        damaged, NewerError if a newer version of rarefy wrote it.
        """
        data = self.read(f"{_ARTIFACTS}/{digest}/{MANIFEST}")
        if data is None:
            raise RecipeError(f"{self.url}: there is no artifact {digest[:12]}")
        try:
            manifest = Manifest.parse(data, f"{self.url}: artifact {digest[:12]}")
        except ValueError:
            manifest = None
        if manifest is None or manifest.digest != digest:
            raise IntegrityError(f"{self.url}: the manifest of artifact {digest[:12]} is damaged")
        return manifest

    def check_bytes(self, digest: str) -> None:
        """Raise IntegrityError if an artifact's files do not match its manifest."""
        try:
            manifest = self.manifest(digest)
        except RecipeError as error:
            raise IntegrityError(f"{error} any more") from None
        for entry in manifest.files:
            if self.sha256(f"{_ARTIFACTS}/{digest}/{entry.path}") != entry.sha256:
                raise IntegrityError(
                    f"{self.url}: {entry.path} of artifact {digest[:12]} is damaged or missing"
                )

    def sha256(self, path: str) -> str | None:
        """Return the sha256 of a file's bytes there, in hex. Returns None if it does not exist.

        S3 tells the one that it checked when the file came; otherwise the file is read, in chunks.
        """
        full = f"{self.root}/{path}"
        with _speaking(self.url):
            try:
                if self.protocols & swap.S3:
                    bucket, _, key = full.partition("/")
                    head = self.system.call_s3(
                        "head_object", Bucket=bucket, Key=key, ChecksumMode="ENABLED"
                    )
                    known = head.get("ChecksumSHA256", "")
                    if known and head.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT":
                        return base64.b64decode(known).hex()
                with self.system.open(full, "rb") as file:
                    return hashlib.file_digest(file, "sha256").hexdigest()
            except FileNotFoundError:
                return None

    def move_tag(
        self,
        name: str,
        digest: str,
        expect: str | None,
        why: Why,
        run: str | None = None,
        verdict: str | None = None,
    ) -> None:
        """Point a tag at an artifact whose bytes are there and whole.

        Raises IntegrityError if they are not, EvidenceError if the tag does not point at ``expect``
        or others keep moving it, ProviderError if it is not known whether the move arrived.
        """
        path = f"tags/{name}.json"
        self._make_folder(path)
        with self._guard() as deletable:
            if deletable or digest not in self._whole:
                self.check_bytes(digest)
            for _ in range(ATTEMPTS):
                with _speaking(self.url):
                    seen = swap.read(self.system, f"{self.root}/{path}")
                current = None if seen.data is None else parse(seen.data, f"{self.url}/{path}")
                check_unmoved(f"{self.url}#{name}", current, expect)
                if current is not None and current.digest == digest:
                    return
                data = moved(current, digest, why, run, verdict).file()
                if self._swap(path, data, seen):
                    return
        raise EvidenceError(f"{self.url}#{name}: others keep moving this tag; try again")

    def _swap(self, path: str, data: bytes, seen: swap.Seen) -> bool:
        with _speaking(self.url):
            try:
                swap.replace(self.system, f"{self.root}/{path}", data, seen)
            except swap.ChangedError:
                return False
            except swap.LostError as error:
                raise ProviderError(
                    f"{self.url}: the connection broke while {path} was written, so it may have "
                    f"moved or not; look there and try again: {_line(error.__cause__)}"
                ) from error
        return True

    @contextmanager
    def _guard(self) -> Iterator[bool]:
        """Hold the guard of the store there and yield True, if it is on this machine's disk.

        Elsewhere nothing deletes artifacts, and there is nothing to hold.
        """
        if not isinstance(self.system, LocalFileSystem):
            yield False
            return
        folder = Path(self.root) / "locks"
        with disk.speaking(folder):
            folder.mkdir(exist_ok=True)
            with locks.held(folder / GUARD):
                yield True

    def run_record(self, digest: str) -> dict[str, Any]:
        """Read an artifact's run record. Returns {} if it is missing or unreadable."""
        try:
            record = json.loads(self.read(f"{_ARTIFACTS}/{digest}/{RUN}") or b"{}")
        except ValueError:
            return {}
        return record if isinstance(record, dict) else {}

    def send(self, artifact: Artifact) -> int:
        """Send the files that are missing or damaged there, then the manifest.

        Returns the number of bytes sent, without the manifest and the run record. Raises
        IntegrityError if a file is not whole there after it was sent.
        """
        folder, sent = f"{_ARTIFACTS}/{artifact.digest}", 0
        present = self.sizes(folder)
        for entry in artifact.manifest.files:
            path = f"{folder}/{entry.path}"
            if present.get(entry.path) == entry.size and self.sha256(path) == entry.sha256:
                continue
            self._put(artifact.directory / entry.path, path)
            sent += entry.size
            if self.sha256(path) != entry.sha256:
                raise IntegrityError(f"{self.url}: {path} did not arrive whole; push again")
        last = artifact.manifest.canonical()
        if MANIFEST not in present or self.read(f"{folder}/{MANIFEST}") != last:
            self.write(f"{folder}/{RUN}", json.dumps(artifact.run_record()).encode())
            self.write(f"{folder}/{MANIFEST}", last)
        self._whole.add(artifact.digest)
        return sent

    def _put(self, source: Path, path: str) -> None:
        """Send a file. Nobody looks at it before the manifest is there."""
        self._make_folder(path)
        final = f"{self.root}/{path}"
        with _speaking(self.url):
            if isinstance(self.system, LocalFileSystem):
                Path(final).unlink(missing_ok=True)  # published files are read-only
                self.system.put_file(str(source), final)
                disk.seal(Path(final))
            elif self.protocols & swap.S3 and source.stat().st_size < 2 * _PART:
                # S3 checks this hash and keeps it; of a file in parts it could not tell it.
                self.system.put_file(
                    str(source), final, chunksize=_PART, ChecksumAlgorithm="SHA256"
                )
            else:
                self.system.put_file(str(source), final)

    def sizes(self, folder: str) -> dict[str, int]:
        """Return relative path -> size in bytes for all files below a folder."""
        start = f"{self.root}/{folder}/"
        with _speaking(self.url):
            files = self.system.find(start, detail=True)
        return {path.removeprefix(start): info["size"] for path, info in files.items()}

    def names(self, folder: str) -> list[str]:
        """Return the sorted names in a folder. Returns [] if it is missing or cannot be listed."""
        try:
            with _speaking(self.url):
                paths = self.system.ls(f"{self.root}/{folder}", detail=False)
        except RarefyError:
            return []
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in paths)

    def read(self, path: str) -> bytes | None:
        """Return a file's bytes. Returns None if the file does not exist."""
        with _speaking(self.url):
            try:
                data: bytes = self.system.cat_file(f"{self.root}/{path}")
            except FileNotFoundError:
                return None
        return data

    def fetch(self, path: str, target: Path) -> None:
        """Download a file. Raises IntegrityError if it is missing although a manifest lists it."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with _speaking(self.url):
            try:
                self.system.get_file(f"{self.root}/{path}", str(target))
            except FileNotFoundError:
                raise IntegrityError(f"{self.url}: {path} is missing on the remote") from None

    def write(self, path: str, data: bytes) -> None:
        """Write a small file atomically: buckets do so by themselves, a local file is renamed."""
        self._make_folder(path)
        final = f"{self.root}/{path}"
        with _speaking(self.url):
            if not isinstance(self.system, LocalFileSystem):
                self.system.pipe_file(final, data)
                return
            temporary = f"{final}.{uuid.uuid4().hex}"
            self.system.pipe_file(temporary, data)
            disk.seal(Path(temporary))
            self.system.mv(temporary, final)
            disk.sync(Path(final).parent)

    def _make_folder(self, path: str) -> None:
        if not self.protocols & BUCKETS:
            with _speaking(self.url):
                parent = f"{self.root}/{path}".rsplit("/", 1)[0]
                self.system.makedirs(parent, exist_ok=True)

    def check_exists(self) -> None:
        """Raise RecipeError if there is nothing at the URL, so that it may be mistyped.

        A bucket has no folders: a path that holds nothing yet is an error only if one with nearly
        the same name is beside it.
        """
        self._check_place()
        with _speaking(self.url):
            if self.system.exists(self.root):
                return
        parent, _, name = self.root.rpartition("/")
        if not self.protocols & BUCKETS:
            raise RecipeError(
                f"{self.url}: no such folder; correct the URL, or create the folder for a first "
                "release"
            )
        with _speaking(self.url):
            paths = self.system.ls(parent, detail=False)
        near = misspelt(name, [path.rstrip("/").rpartition("/")[2] for path in paths])
        if near is not None:
            raise RecipeError(f"{self.url}: nothing is there; did you mean {near!r}?")

    def _check_place(self) -> None:
        """Raise RecipeError if the bucket, or the remote's parent folder, does not exist."""
        place = None
        if self.protocols & BUCKETS:
            place = self.root.split("/", 1)[0]
        elif isinstance(self.system, LocalFileSystem):
            place = self.root.rpartition("/")[0] or "/"
        with _speaking(self.url):
            if place is not None and not self.system.exists(place):
                raise RecipeError(f"{self.url}: no such bucket or folder: {place}")


@contextmanager
def _speaking(url: str) -> Iterator[None]:
    """Turn errors of a remote file system into a RarefyError of one line."""
    try:
        yield
    except RarefyError:
        raise
    except ImportError as error:
        raise ProviderError(f"{url}: {_missing_package(url, error)}") from error
    except FileNotFoundError as error:
        raise RecipeError(f"{url}: no such bucket or folder: {_line(error)}") from error
    except PermissionError as error:
        raise ProviderError(f"{url}: no permission: {_line(error)}") from error
    except Exception as error:
        if disk.is_full(error):
            raise ProviderError(f"{url}: no space left while copying: {_line(error)}") from error
        if isinstance(error, ValueError) and "Protocol not known" in str(error):
            raise RecipeError(f"{url}: {_line(error)}") from error
        raise ProviderError(f"{url}: {type(error).__name__}: {_line(error)}") from error


def _missing_package(url: str, error: ImportError) -> str:
    """Name the package that provides the file system for a URL's protocol."""
    protocol = url.split(":", 1)[0]
    package = known_implementations.get(protocol, {}).get("class", "fsspec").split(".")[0]
    if package == "fsspec":
        return _line(error)
    return f"the protocol {protocol!r} needs another package; run: pip install {package}"


def _line(error: BaseException | None) -> str:
    return next(iter(str(error).strip().splitlines()), "no reason given")
