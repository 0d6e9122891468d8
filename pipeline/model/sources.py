"""Where models and data come from: a path, ``package:import_name/sub/dir``, ``hub:owner/name``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from pipeline.terms.errors import DataError, ModelError, RarefyError


def model_directory(reference: str, base: Path) -> tuple[Path, str | None]:
    """Return the directory a model reference names, and its revision where it has one.

    Raises ModelError where it is not there; for the hub, where no copy can be had.
    """
    if reference.startswith("hub:"):
        return _hub_model(reference)
    if reference.startswith("package:"):
        path = _package_path(reference, ModelError)
    else:
        path = base / Path(reference).expanduser()
    if not path.is_dir():
        raise ModelError(f"model: {reference}: no directory {path}")
    return path, None


def data_file(reference: str, base: Path, key: str) -> Path:
    """Return the file a data reference names. Raises DataError where it is not there."""
    if reference.startswith("hub:"):
        return _hub_data(reference, key)
    if reference.startswith("package:"):
        path = _package_path(reference, DataError)
    else:
        path = base / Path(reference).expanduser()
    if not path.is_file():
        raise DataError(f"{key}: {reference}: no such file ({path})")
    return path


def _package_path(reference: str, error: type[RarefyError]) -> Path:
    """Find a path inside an installed package without importing it: its code is never run."""
    name, _, rest = reference.removeprefix("package:").partition("/")
    try:
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise error(f"{reference}: the package {name!r} is not installed in this environment")
    root = Path(next(iter(spec.submodule_search_locations))).resolve()
    path = (root / rest).resolve()
    if not path.is_relative_to(root):
        raise error(f"{reference}: the path leaves the package")
    return path


def _split_hub(reference: str) -> tuple[str, str | None]:
    name, _, revision = reference.removeprefix("hub:").partition("@")
    return name, revision or None


def _hub_model(reference: str) -> tuple[Path, str | None]:
    """Return the hub's snapshot of a model: the weights as safetensors, config and tokenizer.

    Pickled weights come along only where there are no others: whether they may be used is the
    recipe's to say.
    """
    from huggingface_hub import snapshot_download

    name, revision = _split_hub(reference)
    patterns = ["*.safetensors", "*.json", "*.txt", "*.model", "README.md"]
    try:
        path = Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
        if not any(path.glob("*.safetensors")):
            patterns.append("pytorch_model*.bin")
            path = Path(snapshot_download(name, revision=path.name, allow_patterns=patterns))
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"model: {reference}: not to be had from the hub: {reason}") from error
    return path, path.name


def _hub_data(reference: str, key: str) -> Path:
    """``hub:owner/name@revision/path/in/the/repository.parquet``: one file of a dataset."""
    from huggingface_hub import hf_hub_download

    name, revision = _split_hub(reference)
    if revision is None or "/" not in revision:
        raise DataError(f"{key}: {reference}: write hub:owner/name@revision/path/to/file.parquet")
    revision, _, path = revision.partition("/")
    try:
        return Path(hf_hub_download(name, path, revision=revision, repo_type="dataset"))
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{key}: {reference}: not to be had from the hub: {reason}") from error
