"""Remotes: artifacts and tags of another store behind a URL.

A remote is a folder with the store's layout (``pipeline/store/remote/files.py``). A push uploads an
artifact's files first, then its manifest, then the tag, so a partial upload is never visible.
Before a tag moves, the bytes there are compared with the manifest's hashes. A pull checks every
file against the manifest before it publishes the artifact locally; a pull that broke off is
continued. Ancestors are not copied, because a bundle is self-contained.

A tag there moves by compare and swap where the service has it
(``pipeline/store/remote/compare_and_swap.py``): of two
who move it at once, one is refused or sees the other's move. On a local disk, the remote is another
store, and its guard is held.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from rarefy.pipeline.store import disk, locks
from rarefy.pipeline.store.artifact import MANIFEST, RUN, Artifact, Manifest
from rarefy.pipeline.store.remote.files import RemoteFiles
from rarefy.pipeline.store.store import GUARD, Store
from rarefy.pipeline.store.tags import (
    ANY,
    NoTagError,
    Tag,
    Why,
    check_name,
    check_unmoved,
    moved,
    parse,
)
from rarefy.pipeline.terms import json_text
from rarefy.pipeline.terms.digests import is_beginning, is_sha256
from rarefy.pipeline.terms.errors import EvidenceError, IntegrityError, RarefyError, RecipeError
from rarefy.pipeline.terms.recipe_parts import REMOTE_TAG

ATTEMPTS = 20
"""How often to try again to move a tag that others move at the same time."""
NUMBER = "number.txt"
"""The file of a remote with the last number that it gave."""
_ARTIFACTS = "artifacts/sha256"


def split(reference: str) -> tuple[str, str]:
    """Split ``URL#REF`` into URL and reference. Raises RecipeError if either is missing."""
    url, _, name = reference.rpartition(REMOTE_TAG)
    if not url or not name:
        raise RecipeError(f"{reference}: expected URL#TAG, e.g. file:///shared/store#production")
    return url, name


def check_url(url: str) -> None:
    """Raise RecipeError if a tag stands behind a store's URL: it would be another store's name."""
    store, _, name = url.rpartition(REMOTE_TAG)
    if store and name and "/" not in name:
        raise RecipeError(
            f"{url}: expected a store's URL without a tag, e.g. {store}; a tag is given apart"
        )


def push(store: Store, digest: str, url: str, tag: str | None = None) -> int:
    """Copy an artifact to a remote and point a tag there at it; return the bytes of files sent.

    Files that the remote already has are not sent again, unless they are damaged there.

    Raises IntegrityError if the local artifact is damaged, EvidenceError if others keep moving the
    tag, and RecipeError or ProviderError if the remote rejects the request.
    """
    if tag is not None:
        check_name(tag)
    artifact = store.open(digest)
    remote = Remote.open(url)
    lease = store.lease()
    store.use(digest, lease)
    store.check(digest)
    remote.check_writable()
    sent = remote.send(artifact)
    lease.close()
    if tag is not None:
        remote.move_tag(tag, digest, ANY, "tag")
    return sent


def pull(store: Store, url: str, reference: str) -> Artifact:
    """Copy an artifact from a remote, by its tag or digest there, unless the store has it whole.

    Raises NoTagError if the remote has no such tag. Raises IntegrityError, and publishes nothing,
    if the files do not match the manifest.
    """
    remote = Remote.open(url)
    digest = remote.resolve(reference)
    local = _undamaged(store, digest)
    if local is not None:
        return local
    manifest = remote.manifest(digest)
    work = f"pull-{digest}"
    with store.lock(work), disk.speaking(store.root):
        local = _undamaged(store, digest)
        if local is not None:
            return local  # another process has pulled it meanwhile
        folder = store.work(work)  # stays if the transfer breaks off, and the next one goes on
        resumed = any(folder.iterdir())
        pulled = None
        for entry in manifest.files:
            path = f"{_ARTIFACTS}/{digest}/{entry.path}"
            remote.fetch(path, folder / entry.path, entry.size)
        try:
            pulled = store.adopt(folder, manifest, remote.run_record(digest))
        except IntegrityError as error:
            if not resumed:
                shutil.rmtree(folder, ignore_errors=True)
                raise IntegrityError(
                    f"{url}: {error}; delete {_ARTIFACTS}/{digest[:12]}… there and push it again"
                ) from None
        shutil.rmtree(folder, ignore_errors=True)  # still there if a run has just made the artifact
    if pulled is None:
        return pull(store, url, digest)  # what an earlier attempt had left may be the damage
    return pulled


def _undamaged(store: Store, digest: str) -> Artifact | None:
    """Return an artifact, now in use, if the store has all of its files and none is damaged."""
    try:
        artifact = store.open(digest)
        if store.use(digest) and not store.verify(digest):
            return artifact
    except (RecipeError, IntegrityError):
        pass
    return None


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


def same(one: str, other: str) -> bool:
    """Return whether two ``URL#TAG`` are one tag: a URL can be written in several ways.

    Hosts and accounts, which are in no path, count if both name one.
    """
    one_place, one_hosts = _place(one)
    other_place, other_hosts = _place(other)
    if one_place != other_place:
        return False
    return all(one_hosts[key] == other_hosts[key] for key in one_hosts.keys() & other_hosts.keys())


def _place(reference: str) -> tuple[str, dict[str, str]]:
    """Return where a tag is, in one spelling, and the host and account if its URL names them."""
    url, name = split(reference)
    remote = Remote.open(url)
    root = remote.root
    if remote.on_disk:
        root = os.path.realpath(root)
    options = remote.system.storage_options
    hosts = {}
    for key in ("host", "account_name"):
        if options.get(key):
            hosts[key] = str(options[key])
    protocol = min(remote.protocols)
    return f"{protocol}:{root}{REMOTE_TAG}{name}", hosts


class Remote(RemoteFiles):
    """A store's folder behind a URL."""

    @classmethod
    def open(cls, url: str) -> Self:
        """Open a remote store. Raises what ``check_url`` and ``RemoteFiles.open`` raise."""
        check_url(url)
        return super().open(url)

    def find_tag(self, name: str) -> Tag | None:
        """Return a tag with its history. Returns None if it does not exist."""
        check_name(name)
        data = self.read(f"tags/{name}.json")
        return None if data is None else parse(data, f"{self.url}/tags/{name}.json")

    def tags(self) -> list[str]:
        """Return the names of the remote's tags. Returns [] if they cannot be listed."""
        with suppress(RarefyError):
            return [name.removesuffix(".json") for name in self.names("tags")]
        return []

    def resolve(self, reference: str) -> str:
        """Return the digest that a tag, a digest or a unique digest prefix refers to.

        Raises RecipeError if the prefix matches no artifact or several, NoTagError if the tag does
        not exist.
        """
        if is_sha256(reference):
            return reference
        if is_beginning(reference):
            matches = [name for name in self.names(_ARTIFACTS) if name.startswith(reference)]
            if len(matches) == 1:
                return matches[0]
            problem = "no artifact matches"
            if matches:
                problem = f"{len(matches)} artifacts match"
            raise RecipeError(f"{self.url}#{reference}: {problem} this digest prefix")
        tag = self.find_tag(reference)
        if tag is None:
            self.check_place()
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
        self.make_folder(path)
        with self._guard():
            self.check_bytes(digest)
            for _ in range(ATTEMPTS):
                seen = self.look(path)
                current = None
                if seen.data is not None:
                    current = parse(seen.data, f"{self.url}/{path}")
                check_unmoved(f"{self.url}#{name}", current, expect)
                if current is not None and current.digest == digest:
                    return
                tag = moved(current, digest, why, run, verdict)
                if self.swap(path, tag.file(), seen):
                    return
        raise EvidenceError(f"{self.url}#{name}: others keep moving this tag; try again")

    def next_number(self) -> int:
        """Return a number above all that the remote has given: an order that no clock decides.

        Raises EvidenceError if others keep taking numbers, IntegrityError if the last is damaged.
        """
        self.make_folder(NUMBER)
        with self._guard():
            for _ in range(ATTEMPTS):
                seen = self.look(NUMBER)
                last = (seen.data or b"0").decode(errors="replace")
                if not last.isdecimal():
                    raise IntegrityError(f"{self.url}/{NUMBER}: the file is damaged; delete it")
                number = 1 + int(last)
                if self.swap(NUMBER, str(number).encode(), seen):
                    return number
        raise EvidenceError(f"{self.url}: others keep publishing there; try again")

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Hold the guard of the store there, if it is on this machine's disk.

        Elsewhere nothing deletes artifacts, and there is nothing to hold.
        """
        if not self.on_disk:
            yield
            return
        folder = Path(self.root) / "locks"
        with disk.speaking(folder):
            folder.mkdir(exist_ok=True)
            with locks.held(folder / GUARD):
                yield

    def run_record(self, digest: str) -> dict[str, Any]:
        """Read an artifact's run record. Returns {} if it is missing or unreadable."""
        data = self.read(f"{_ARTIFACTS}/{digest}/{RUN}")
        try:
            return json_text.shaped(dict[str, Any], data or b"{}")
        except ValueError:
            return {}

    def has(self, artifact: Artifact) -> bool:
        """Return whether the manifest is there, and each file with its size; no file is read."""
        folder = f"{_ARTIFACTS}/{artifact.digest}"
        present = self.sizes(folder)
        if MANIFEST not in present:
            return False
        for entry in artifact.manifest.files:
            if present.get(entry.path) != entry.size:
                return False
        return self.read(f"{folder}/{MANIFEST}") == artifact.manifest.canonical()

    def send(self, artifact: Artifact) -> int:
        """Send the files that are missing or damaged there, then the manifest.

        Returns the number of bytes sent, without the manifest and the run record. Raises
        IntegrityError if a file is not whole there after it was sent.
        """
        folder = f"{_ARTIFACTS}/{artifact.digest}"
        sent = 0
        present = self.sizes(folder)
        for entry in artifact.manifest.files:
            path = f"{folder}/{entry.path}"
            if present.get(entry.path) == entry.size and self.sha256(path) == entry.sha256:
                continue
            self.put(artifact.directory / entry.path, path)
            sent += entry.size
            if self.sha256(path) != entry.sha256:
                raise IntegrityError(f"{self.url}: {path} did not arrive whole; push again")
        manifest = artifact.manifest.canonical()
        if MANIFEST not in present or self.read(f"{folder}/{MANIFEST}") != manifest:
            record = json.dumps(artifact.run_record())
            self.write(f"{folder}/{RUN}", record.encode())
            self.write(f"{folder}/{MANIFEST}", manifest)
        return sent
