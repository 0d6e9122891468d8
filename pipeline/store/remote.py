"""Remotes: artifacts and tags of another store behind a URL, accessed through fsspec.

A remote is a folder with the store's layout, on ``s3://``, ``gs://``, ``az://``, ``file://`` or any
other file system that fsspec supports; ``https://`` is read-only. A push uploads an artifact's
files first, then its manifest, then the tag, so a partial upload is never visible. A pull checks
every file against the manifest before it publishes the artifact locally. Ancestors are not copied,
because a bundle is self-contained.

Credentials come from the environment or the provider's configuration files, never from the URL.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import known_implementations

from pipeline.store import disk
from pipeline.store.artifact import MANIFEST, RUN, Artifact, Manifest
from pipeline.store.store import REMEDY, Store
from pipeline.store.tags import ANY, NoTagError, Tag, Why, check_name, check_unmoved, moved, parse
from pipeline.terms.errors import IntegrityError, ProviderError, RarefyError, RecipeError
from pipeline.terms.vocabulary import REMOTE_TAG

BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl"})
"""Protocols without real folders; creating a folder there could create the bucket."""
READ_ONLY = frozenset({"http", "https"})
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

    Files that the remote already has are not sent again. The tag is read, compared with ``expect``
    and written. fsspec has no atomic compare-and-swap: if two processes write at the same time, the
    later one wins and the earlier move is missing from the history.

    Raises IntegrityError if the local artifact is damaged, EvidenceError if the tag was moved in
    the meantime, and RecipeError or ProviderError if the remote rejects the request.
    """
    if tag is not None:
        check_name(tag)
    artifact = store.open(digest)
    if problems := store.verify(digest):
        raise IntegrityError(f"artifact {artifact.short} is damaged: {problems[0]}; {REMEDY}")
    remote = Remote.open(url)
    remote.check_writable()
    sent = remote.send(artifact)
    if tag is not None:
        current = remote.find_tag(tag)
        check_unmoved(f"{url}#{tag}", current, expect)
        if current is None or current.digest != digest:
            remote.write(f"tags/{tag}.json", moved(current, digest, why, run, verdict).file())
    return sent


def pull(store: Store, url: str, reference: str) -> Artifact:
    """Copy an artifact from a remote, by its tag or digest there, unless the store has it already.

    Raises NoTagError if the remote has no such tag. Raises IntegrityError, and publishes nothing,
    if the files do not match the manifest.
    """
    remote = Remote.open(url)
    digest = remote.resolve(reference)
    try:
        return store.open(digest)
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


def rollback(url: str, name: str, digest: str, expect: str) -> None:
    """Point a remote's tag back at an earlier artifact, after checking that artifact's bytes.

    Raises IntegrityError if they are missing or damaged, EvidenceError if the tag was moved in the
    meantime, and RecipeError or ProviderError if the remote rejects the request.
    """
    remote = Remote.open(url)
    remote.check_writable()
    remote.check_bytes(digest)
    current = remote.find_tag(name)
    check_unmoved(f"{url}#{name}", current, expect)
    remote.write(f"tags/{name}.json", moved(current, digest, "rollback").file())


def place(reference: str) -> str:
    """Return the normalized form that all spellings of one ``URL#TAG`` share."""
    url, name = split(reference)
    remote = Remote.open(url)
    return f"{min(remote.protocols)}:{remote.root}{REMOTE_TAG}{name}"


@dataclass(frozen=True)
class Remote:
    """A store's folder behind a URL: ``root`` is its path in the file system ``system``."""

    url: str
    system: Any
    root: str

    @classmethod
    def open(cls, url: str) -> Remote:
        """Open a remote without reading anything yet.

        Raises RecipeError if the URL is invalid. Raises ProviderError if fsspec knows the protocol
        but the package for its file system is not installed.
        """
        if not url:
            raise RecipeError("a remote needs a URL, e.g. s3://bucket/rarefy")
        if re.search("//[^/@]*:[^/@]*@", url):
            raise RecipeError(
                "the URL contains a password, which would end up in recipes and records; pass "
                "credentials through the environment instead"
            )
        with _speaking(url):
            system, root = fsspec.url_to_fs(url)
            system.invalidate_cache()
        return cls(url, system, root.rstrip("/"))

    @property
    def protocols(self) -> set[str]:
        protocol = self.system.protocol
        return {protocol} if isinstance(protocol, str) else set(protocol)

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
        damaged.
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
            data = self.read(f"{_ARTIFACTS}/{digest}/{entry.path}")
            if data is None or hashlib.sha256(data).hexdigest() != entry.sha256:
                raise IntegrityError(
                    f"{self.url}: {entry.path} of artifact {digest[:12]} is damaged or missing"
                )

    def run_record(self, digest: str) -> dict[str, Any]:
        """Read an artifact's run record. Returns {} if it is missing or unreadable."""
        try:
            record = json.loads(self.read(f"{_ARTIFACTS}/{digest}/{RUN}") or b"{}")
        except ValueError:
            return {}
        return record if isinstance(record, dict) else {}

    def send(self, artifact: Artifact) -> int:
        """Send the files that are missing or differ in size, then the manifest.

        Returns the number of bytes sent, without the manifest and the run record.
        """
        folder, sent = f"{_ARTIFACTS}/{artifact.digest}", 0
        present = self.sizes(folder)
        for entry in artifact.manifest.files:
            if present.get(entry.path) != entry.size:
                self._make_folder(f"{folder}/{entry.path}")
                with _speaking(self.url):
                    path = artifact.directory / entry.path
                    self.system.put_file(str(path), f"{self.root}/{folder}/{entry.path}")
                sent += entry.size
        last = artifact.manifest.canonical()
        if present.get(MANIFEST) != len(last):
            self.write(f"{folder}/{RUN}", json.dumps(artifact.run_record()).encode())
            self.write(f"{folder}/{MANIFEST}", last)
        return sent

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
            self.system.mv(temporary, final)

    def _make_folder(self, path: str) -> None:
        if not self.protocols & BUCKETS:
            with _speaking(self.url):
                parent = f"{self.root}/{path}".rsplit("/", 1)[0]
                self.system.makedirs(parent, exist_ok=True)

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


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "no reason given")
