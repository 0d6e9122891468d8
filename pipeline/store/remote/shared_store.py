"""A store in front of a remote one that several machines share: work that one has done, all find.

The remote has the layout of a store, so it also holds which artifact a piece of work made
(``fingerprints/``) and what was derived from it (``notes/``). A machine that has neither takes the
remote's word for it: whoever may write there is trusted. Of an artifact that is only there, the
manifest alone is read; its files come when something reads them (``bring``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from rarefy.pipeline.store.artifact import Artifact
from rarefy.pipeline.store.remote import artifacts as remote
from rarefy.pipeline.store.remote.artifacts import Remote
from rarefy.pipeline.store.store import Lease, Store
from rarefy.pipeline.terms import json_text
from rarefy.pipeline.terms.digests import is_sha256
from rarefy.pipeline.terms.errors import IntegrityError, RecipeError


class Shared(Store):
    """A store that looks for earlier work in a remote, too. Only ``share`` sends anything."""

    def __init__(self, root: Path, url: str) -> None:
        super().__init__(root)
        self.url = url
        self._remote_only: dict[str, Artifact] = {}
        self.used: set[str] = set()
        """The keys of the notes that were read or kept."""

    def lookup(self, fingerprint: str) -> Artifact | None:
        """Return the artifact of work finished here or there; its files may be only there.

        Raises what ``Store.lookup`` and reading the remote raise.
        """
        local = super().lookup(fingerprint)
        if local is not None:
            return local
        remote_store = Remote.open(self.url)
        digest = _digest(remote_store.read(_entry(fingerprint)), remote_store.url, fingerprint)
        if digest is None:
            return None
        if self.directory(digest).is_dir():
            return self.open(digest)
        if digest not in self._remote_only:
            try:
                manifest = remote_store.manifest(digest)
            except RecipeError:
                return None  # it was deleted there; its entry means nothing, as in any store
            self._remote_only[digest] = Artifact(self.directory(digest), manifest, digest)
        return self._remote_only[digest]

    def use(self, digest: str, lease: Lease | None = None) -> bool:
        """Take an artifact into use; True also if it is only in the remote."""
        return super().use(digest, lease) or digest in self._remote_only

    def bring(self, digest: str) -> None:
        """Fetch an artifact's files if they are only in the remote; they are checked."""
        if digest in self._remote_only and not self.directory(digest).is_dir():
            remote.pull(self, self.url, digest)

    def note(self, key: str, form: Any = Any) -> Any:
        """Return a derived fact that is known here or there, and keep it here."""
        self.used.add(key)
        value = super().note(key, form)
        if value is not None:
            return value
        content = Remote.open(self.url).read(_note(key))
        if content is None:
            return None
        try:
            value = json_text.parse(content)
            checked = json_text.check(form, value)
        except ValueError:
            return None
        super().keep_note(key, value)
        return checked

    def keep_note(self, key: str, value: Any) -> None:
        self.used.add(key)
        super().keep_note(key, value)


def share(store: Store, artifacts: Iterable[Artifact], url: str) -> int:
    """Send artifacts of finished work, and the notes used, to a remote; return the bytes sent.

    Of each artifact the files go first, then its manifest, then that its work is done: who finds an
    entry there finds all of it. So what has its entry there was read back once, when it was sent,
    and is not read again, neither here nor there: every run of every machine shares all its steps.
    (Who takes it checks each byte, and ``push`` mends what was damaged later.) Work that the next
    run repeats is sent without an entry. Raises what ``remote.push`` raises.
    """
    remote_store = Remote.open(url)
    remote_store.check_writable()
    sent = 0
    for artifact in artifacts:
        if not store.directory(artifact.digest).is_dir():
            continue  # it came from there, and nothing here read its files
        fingerprint = artifact.manifest.stage.fingerprint
        cached = store.lookup(fingerprint)
        lasts = cached is not None and cached.digest == artifact.digest
        if lasts and _has(remote_store, artifact):
            continue
        store.check(artifact.digest)
        sent += remote_store.send(artifact)
        if lasts:
            remote_store.write(
                _entry(fingerprint), json.dumps({"digest": artifact.digest}).encode()
            )
    for key in sorted(store.used if isinstance(store, Shared) else ()):
        value = store.note(key)
        if value is not None and remote_store.read(_note(key)) is None:
            remote_store.write(_note(key), json.dumps(value).encode())
    return sent


def _has(remote_store: Remote, artifact: Artifact) -> bool:
    """Return whether a remote has an artifact, and that its work is done."""
    fingerprint = artifact.manifest.stage.fingerprint
    with suppress(IntegrityError):  # a damaged entry is written again
        digest = _digest(remote_store.read(_entry(fingerprint)), remote_store.url, fingerprint)
        return digest == artifact.digest and remote_store.has(artifact)
    return False


def _entry(fingerprint: str) -> str:
    return f"fingerprints/{fingerprint}.json"


def _note(key: str) -> str:
    return f"notes/{key}.json"


def _digest(data: bytes | None, url: str, fingerprint: str) -> str | None:
    if data is None:
        return None
    try:
        digest = json_text.shaped(dict[str, str], data).get("digest", "")
    except ValueError:
        digest = ""
    if not is_sha256(digest):
        raise IntegrityError(f"{url}/{_entry(fingerprint)}: the file is damaged; delete it there")
    return digest
