"""Models and data files at ``https://`` and ``s3://`` addresses, downloaded into the home.

What is downloaded is pinned by the sha256 that the reference states (``URL#sha256=…``), or else by
the ETag that the server gives each file. A file whose ETag changes after this process has planned
with it is an error. A download appears by a rename, when it is whole; what a broken connection
leaves is continued by the next attempt. Credentials come from the environment, as the cloud's own
tools read them, and never from the URL.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from rarefy.pipeline.sources import hub
from rarefy.pipeline.store import disk, locks
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.digests import file_sha256, value_sha256
from rarefy.pipeline.terms.errors import (
    DataError,
    IntegrityError,
    ModelError,
    ProviderError,
    RarefyError,
)

if TYPE_CHECKING:
    from rarefy.pipeline.store.remote.files import Description, RemoteFiles

log = logging.getLogger(__name__)

PREFIXES: Final = ("https://", "http://", "s3://")
LARGEST: Final = 64 * 2**30
"""Bytes of a data file or a file of weights."""
LARGEST_SMALL: Final = 256 * 2**20
"""Bytes of any other file of a model."""
MOST_SHARDS: Final = 256

DOWNLOADS: Final = "downloads"
"""The folder in the home."""
SUMS: Final = "SHA256SUMS"
ATTEMPTS: Final = 3
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_DIGEST = re.compile(r"(?P<url>[^#]*)#sha256=(?P<sha256>[0-9a-f]{64})")
_REMEDY = (
    "check the address, the network and the credentials in the environment, or copy it to this "
    "machine and name its path"
)


def is_url(reference: str) -> bool:
    """Return whether a reference is an address that is downloaded."""
    return reference.startswith(PREFIXES)


def data(reference: str, key: str) -> Path:
    """Return the path of a data file, which is downloaded unless it is here.

    Args:
        reference: ``URL`` or ``URL#sha256=…``.
        key: What errors call it.

    Raises:
        DataError: There is no such file, it is too large, or it has changed since it was planned.
        IntegrityError: Its digest is another.
        ProviderError: The server cannot be reached.
    """
    download = Download.parse(reference, key, DataError)
    folder, _, address = download.url.rpartition("/")
    name = unquote(PurePosixPath(urlsplit(download.url).path).name)
    if not _is_plain(name) or folder.endswith(":/"):
        raise DataError(f"{key}: {reference}: the address names no file")

    def find(remote: RemoteFiles) -> Files:
        return {name: File(address, remote.describe(address), LARGEST)}

    return download.bring(folder, find, of_the_file) / name


def model(reference: str, key: str) -> Path:
    """Return the folder of a model, whose files are downloaded unless they are here.

    The files are looked up by their names, as a web server lists no folder: config.json, the
    tokenizer, safetensors (one file, or the shards of its index), what sentence-transformers adds,
    and the card. Pickled weights and code are not downloaded. The digest in a reference is that of
    what ``sha256sum`` prints for these files, sorted by name. Arguments and errors are as those of
    ``data``, with ModelError for DataError.
    """
    download = Download.parse(reference, key, ModelError)
    address = download.url.rstrip("/")
    return download.bring(address, lambda remote: _Model(remote).files(), of_all_files)


@dataclass(frozen=True)
class _Model:
    """The files of a model in a folder of a server."""

    remote: RemoteFiles

    def files(self) -> Files:
        """Return the files that there are; config.json in any case."""
        config = self._file(hub.CONFIG)
        files = {hub.CONFIG: config}
        if config.description is None:
            return files
        files |= self._weights()
        files |= self._existing(
            (
                *hub.TOKENIZER,
                *hub.SIDECARS,
                hub.MODULES,
                hub.SENTENCES,
                hub.PROMPTS,
                hub.CARD,
            )
        )
        if hub.MODULES in files:
            files |= self._existing(self._settings_of_modules())
        return files

    def _weights(self) -> dict[str, File]:
        """Return the weights in one file, or the index with its shards."""
        whole = self._existing((hub.WEIGHTS,))
        if whole:
            return whole
        files = self._existing((hub.INDEX,))
        if not files:
            self.remote.describe(hub.WEIGHTS)  # raises what a refusal was about
            raise ModelError(f"the server has no {hub.WEIGHTS} and no {hub.INDEX} (404)")
        for shard in self._shards():
            files[shard] = self._file(shard)
        return files

    def _shards(self) -> list[str]:
        """Return the names of the shards that the index of the weights names."""
        try:
            shards = sorted(set(self._json(hub.INDEX)["weight_map"].values()))
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            raise ModelError(f"{hub.INDEX}: not an index of shards") from None
        for shard in shards:
            if not _is_plain(shard) or not shard.endswith(".safetensors"):
                raise ModelError(f"{hub.INDEX}: its shards are not safetensors next to it")
        if not 0 < len(shards) <= MOST_SHARDS:
            raise ModelError(
                f"{hub.INDEX}: {len(shards)} shards, and 1 to {MOST_SHARDS} are downloaded"
            )
        return shards

    def _settings_of_modules(self) -> list[str]:
        """Return the paths of the settings of sentence-transformers' modules."""
        try:
            folders = [module["path"] for module in self._json(hub.MODULES)]
        except (ValueError, RecursionError, KeyError, TypeError):
            raise ModelError(f"{hub.MODULES}: not a list of modules") from None
        return [f"{folder}/{hub.CONFIG}" for folder in folders if _is_plain(folder)]

    def _json(self, name: str) -> Any:
        """Return the content of a JSON file. Raises ValueError if it is none."""
        description = self._file(name).description
        if description is None or description.size is None or description.size > LARGEST_SMALL:
            raise ValueError(name)
        return json.loads(self.remote.read(name) or b"")

    def _file(self, name: str) -> File:
        largest = LARGEST if name.endswith(".safetensors") else LARGEST_SMALL
        return File(name, self.remote.describe(name), largest)

    def _existing(self, names: Sequence[str]) -> dict[str, File]:
        """Return those of the files that are there.

        A bucket that may not be listed refuses a file that it does not have, rather than say so.
        """
        from rarefy.pipeline.store.remote.files import DeniedError

        files = {}
        refused, absent = [], []
        for name in names:
            try:
                file = self._file(name)
            except DeniedError:
                refused.append(name)
                continue
            if file.description is None:
                absent.append(name)
            else:
                files[name] = file
        if refused and absent:  # the server does tell which files it does not have
            listed = ", ".join(refused)
            log.warning("%s: refused, and so taken as absent: %s", self.remote.url, listed)
        return files


def _is_plain(name: Any) -> bool:
    """Return whether this is the name of a file or folder, and no path."""
    return isinstance(name, str) and name not in ("", ".", "..") and Path(name).name == name


_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class File:
    """A file of a download.

    ``address``: its path below the download's; ``description``: what the server says of it, None if
    there is no such file; ``largest``: the most bytes that it may have.
    """

    address: str
    description: Description | None
    largest: int


Files = Mapping[str, File]
"""The files of a download by the paths that they get here."""


@dataclass
class _Process:
    """What this process has planned with.

    ``home``      the plan's; None: that of the environment
    ``versions``  reference -> the digest of its files' versions when it was planned first
    ``current``   reference -> its folder, for those that this plan has looked up
    """

    home: Path | None = None
    versions: dict[str, str] = field(default_factory=dict)
    current: dict[str, Path] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The folder for downloads."""
        home = self.home or Home.of(None).path
        return home / DOWNLOADS


_process = _Process()


def begin_plan(home: Path) -> None:
    """Keep downloads in ``home`` from here on, and ask the servers again for what has changed."""
    _process.home = home
    _process.current.clear()


def is_open(url: str) -> bool:
    """Return whether others may change on the way what a URL sends."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in LOOPBACK


@dataclass(frozen=True)
class Download:
    """What a recipe refers to by a URL.

    ``reference``  as the recipe has it
    ``url``        the address without a digest
    ``sha256``     the digest that the reference states; None if it states none
    ``key``        the key of the recipe, which errors name
    ``error``      what is raised if the reference is wrong
    """

    reference: str
    url: str
    sha256: str | None
    key: str
    error: type[RarefyError]

    @classmethod
    def parse(cls, reference: str, key: str, error: type[RarefyError]) -> Download:
        """Parse a reference. Raises ``error`` if its digest is none, or anyone may change it."""
        match = _DIGEST.fullmatch(reference)
        if match is None and "#" in reference:
            raise error(f"{key}: {reference}: after '#' stands sha256= and 64 of 0-9, a-f")
        url, sha256 = reference, None
        if match is not None:
            url, sha256 = match["url"], match["sha256"]
        if sha256 is None and is_open(url):
            raise error(
                f"{key}: {reference}: whoever is on the way may change what http:// sends; write "
                "https://, or add #sha256=…"
            )
        return cls(reference, url, sha256, key, error)

    def bring(
        self,
        address: str,
        find: Callable[[RemoteFiles], Files],
        digest: Callable[[str], str],
    ) -> Path:
        """Return the folder that holds the files, each of them whole.

        Args:
            address: The URL below which the files are.
            find: Returns the files.
            digest: Returns what the reference's sha256 is of, given the files' SHA256SUMS.

        Raises:
            RarefyError: ``error``, if a file is missing, too large, or has changed.
            IntegrityError: The digest is another; nothing is left of the download.
            ProviderError: The server cannot be reached.
        """
        current = _process.current.get(self.reference)
        if current is not None and current.is_dir():
            return current
        folder = None
        if self.sha256 is not None:
            folder = _process.folder / value_sha256([self.url, self.sha256])[:32]
        if folder is None or not _is_whole(folder):
            with self._speaking(address):
                folder = self._download(address, find, digest, folder)
        _process.current[self.reference] = folder
        return folder

    @contextmanager
    def _speaking(self, address: str) -> Iterator[None]:
        """Begin errors with the key and the reference; say what to do if no server answers."""
        about = f"{self.key}: {self.reference}"
        try:
            yield
        except RarefyError as error:
            reason = str(error).removeprefix(f"{address}: ")
            if isinstance(error, ProviderError):
                raise ProviderError(f"{about}: {reason}; {_REMEDY}") from error
            kind = IntegrityError if isinstance(error, IntegrityError) else self.error
            raise kind(f"{about}: {reason}") from error

    def _download(
        self,
        address: str,
        find: Callable[[RemoteFiles], Files],
        digest: Callable[[str], str],
        folder: Path | None,
    ) -> Path:
        """Download the files unless they are here; return ``folder``, or that of their versions."""
        from rarefy.pipeline.store.remote.files import RemoteFiles

        remote = RemoteFiles.open(address)
        files = find(remote)
        version = value_sha256([address, self._versions(files)])
        root = _process.folder
        if folder is None:
            self._pin(version)
            folder = root / version[:32]
        work = root / f"{version[:32]}.part"
        with disk.speaking(root):
            root.mkdir(parents=True, exist_ok=True)
            with locks.held(root / f"{version[:32]}.lock"):
                if not _is_whole(folder):
                    shutil.rmtree(folder, ignore_errors=True)
                    self._fill(work, remote, files, digest)
                    work.rename(folder)
                    disk.sync(root)
        return folder

    def _versions(self, files: Files) -> dict[str, str]:
        """Return the version of each file. Raises if one is missing, too large or has none."""
        versions = {}
        for file in files.values():
            path, description = file.address, file.description
            if description is None:
                raise self.error(f"the server has no file {path} (404)")
            if description.size is None:
                raise self.error(f"the server does not say how large {path} is")
            if description.size > file.largest:
                raise self.error(
                    f"{path} has {description.size:,} bytes; at most {file.largest:,} are "
                    "downloaded"
                )
            if self.sha256 is None and is_open(description.address):
                raise self.error(
                    f"the server sends {path} from http://, where whoever is on the way may change "
                    "it; add #sha256=…"
                )
            if description.version is None and self.sha256 is None:
                raise self.error(
                    f"the server gives no ETag of {path}, by which a change would be noticed; add "
                    "#sha256=…"
                )
            versions[path] = f"{description.version} {description.size}"
        return versions

    def _pin(self, version: str) -> None:
        """Raise if this process has planned with other versions of the files."""
        before = _process.versions.get(self.reference)
        if before is not None and before != version:
            del _process.versions[self.reference]
            raise self.error("it changed after it was planned (another ETag); run again")
        _process.versions[self.reference] = version

    def _fill(
        self, work: Path, remote: RemoteFiles, files: Files, digest: Callable[[str], str]
    ) -> None:
        """Download the files to ``work``, where a broken connection leaves what can be continued.

        Raises if one changed on the way or the digest is another; then nothing is left.
        """
        work.mkdir(exist_ok=True)
        for name, file in files.items():
            _log.info("downloading %s of %s", file.address, self.url)
            target = work / name
            target.parent.mkdir(exist_ok=True)
            _fetch(remote, file, target)
        for file in files.values():
            if remote.describe(file.address) != file.description:
                shutil.rmtree(work, ignore_errors=True)
                raise self.error(f"{file.address} changed while it was downloaded; run again")
        sums = _sums(work, sorted(files))
        actual = digest(sums)
        if self.sha256 not in (None, actual):
            shutil.rmtree(work, ignore_errors=True)
            raise IntegrityError(f"these are other bytes: their sha256 is {actual}")
        (work / SUMS).write_text(sums, encoding="utf-8")
        disk.sync_tree(work)


def of_the_file(sums: str) -> str:
    """Return the digest of the only file of a download."""
    return sums.partition(" ")[0]


def of_all_files(sums: str) -> str:
    """Return the digest of several files: that of what ``sha256sum`` prints, sorted by name."""
    return hashlib.sha256(sums.encode()).hexdigest()


def _fetch(remote: RemoteFiles, file: File, target: Path) -> None:
    """Download a file, from where a broken connection left it.

    Raises ProviderError if the connection breaks every time.
    """
    assert file.description is not None
    size = file.description.size
    assert size is not None
    for attempt in range(1, ATTEMPTS + 1):
        try:
            remote.fetch(file.address, target, size)
            actual = target.stat().st_size
            if actual != size:
                raise ProviderError(f"{file.address} ended after {actual:,} of {size:,} bytes")
            return
        except ProviderError as error:
            if attempt == ATTEMPTS:
                raise
            _log.info("%s; trying again", error)


def _sums(folder: Path, names: Sequence[str]) -> str:
    """Return the digests of files as ``sha256sum`` prints them."""
    return "".join(f"{file_sha256(folder / name)}  {name}\n" for name in names)


def _is_whole(folder: Path) -> bool:
    """Return whether a download is complete and has the bytes that it had then."""
    try:
        sums = (folder / SUMS).read_text(encoding="utf-8")
        names = [line.partition("  ")[2] for line in sums.splitlines()]
        return _sums(folder, names) == sums
    except OSError:
        return False
