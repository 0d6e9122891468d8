"""Models and data files at ``https://`` and ``s3://`` addresses."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from rarefy.pipeline.sources import model_files
from rarefy.pipeline.sources.download import Download, File, Files, of_all_files, of_the_file
from rarefy.pipeline.terms.errors import DataError, ModelError

if TYPE_CHECKING:
    from rarefy.pipeline.store.remote.files import RemoteFiles

log = logging.getLogger(__name__)

PREFIXES: Final = ("https://", "http://", "s3://")
LARGEST: Final = 64 * 2**30
"""Bytes of a data file or a file of weights."""
LARGEST_SMALL: Final = 256 * 2**20
"""Bytes of any other file of a model."""
MOST_SHARDS: Final = 256


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
        config = self._file(model_files.CONFIG)
        files = {model_files.CONFIG: config}
        if config.description is None:
            return files
        files |= self._weights()
        files |= self._existing(
            (
                *model_files.TOKENIZER,
                *model_files.SIDECARS,
                model_files.MODULES,
                model_files.SENTENCES,
                model_files.PROMPTS,
                model_files.CARD,
            )
        )
        if model_files.MODULES in files:
            files |= self._existing(self._settings_of_modules())
        return files

    def _weights(self) -> dict[str, File]:
        """Return the weights in one file, or the index with its shards."""
        whole = self._existing((model_files.WEIGHTS,))
        if whole:
            return whole
        files = self._existing((model_files.INDEX,))
        if not files:
            self.remote.describe(model_files.WEIGHTS)  # raises what a refusal was about
            raise ModelError(
                f"the server has no {model_files.WEIGHTS} and no {model_files.INDEX} (404)"
            )
        for shard in self._shards():
            files[shard] = self._file(shard)
        return files

    def _shards(self) -> list[str]:
        """Return the names of the shards that the index of the weights names."""
        try:
            shards = sorted(set(self._json(model_files.INDEX)["weight_map"].values()))
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            raise ModelError(f"{model_files.INDEX}: not an index of shards") from None
        for shard in shards:
            if not _is_plain(shard) or not shard.endswith(".safetensors"):
                raise ModelError(f"{model_files.INDEX}: its shards are not safetensors next to it")
        if not 0 < len(shards) <= MOST_SHARDS:
            raise ModelError(
                f"{model_files.INDEX}: {len(shards)} shards, and 1 to {MOST_SHARDS} are downloaded"
            )
        return shards

    def _settings_of_modules(self) -> list[str]:
        """Return the paths of the settings of sentence-transformers' modules."""
        try:
            folders = [module["path"] for module in self._json(model_files.MODULES)]
        except (ValueError, RecursionError, KeyError, TypeError):
            raise ModelError(f"{model_files.MODULES}: not a list of modules") from None
        return [f"{folder}/{model_files.CONFIG}" for folder in folders if _is_plain(folder)]

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
