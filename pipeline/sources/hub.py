"""Models and data files of the Hugging Face hub: the names of their files, and their download.

They are downloaded into the hub's own cache. The library resumes a file whose connection broke, and
keeps whole files for the next run. ``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HOME`` and
``HF_HUB_OFFLINE`` work as its documentation says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from rarefy.pipeline.terms.errors import DataError, ModelError

CONFIG: Final = "config.json"
CARD: Final = "README.md"
WEIGHTS: Final = "model.safetensors"
"""The weights, if they are in one file."""
INDEX: Final = f"{WEIGHTS}.index.json"
"""Which weights are in which shard, if they are not."""
MODULES: Final = "modules.json"
"""Of sentence-transformers: the parts of a model, and the folders of their settings."""
SENTENCES: Final = "sentence_bert_config.json"
PROMPTS: Final = "config_sentence_transformers.json"
TOKENIZER: Final = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "bpe.codes",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
)
SIDECARS: Final = ("shapes.json",)


PREFIX = "hub:"
WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "README.md")
"""What a model may need: weights, config, tokenizer and model card. No code, no pickled weights."""


def model(reference: str, key: str = "model") -> tuple[Path, str]:
    """Download ``hub:owner/name@revision``; return its directory and the commit of the revision.

    Pickled weights are downloaded only if there are no others. The recipe decides whether they may
    be used. Raises ModelError if the model cannot be downloaded.
    """
    from huggingface_hub import snapshot_download

    name, revision = _split(reference)
    try:
        path = Path(snapshot_download(name, revision=revision, allow_patterns=list(WANTED)))
        if not any(path.rglob("*.safetensors")):
            pickled = [*WANTED, "*pytorch_model.bin", "*pytorch_model-*-of-*.bin"]
            path = Path(snapshot_download(name, revision=path.name, allow_patterns=pickled))
    except Exception as error:
        raise ModelError(
            f"{key}: {reference}: cannot be downloaded from the hub: {_reason(error, revision)}"
        ) from error
    return path, path.name


def data(reference: str, key: str) -> Path:
    """Download one dataset file: ``hub:owner/name@revision/path/in/the/repository.parquet``.

    Raises DataError if the reference names no file or the file cannot be downloaded.
    """
    from huggingface_hub import hf_hub_download

    name, rest = _split(reference)
    revision, _, path = (rest or "").partition("/")
    if not path:
        raise DataError(
            f"{key}: {reference}: expected hub:owner/name@revision/path/to/file.parquet"
        )
    try:
        return Path(hf_hub_download(name, path, revision=revision, repo_type="dataset"))
    except Exception as error:
        raise DataError(
            f"{key}: {reference}: cannot be downloaded from the hub: "
            f"{_reason(error, revision, path)}"
        ) from error


def _split(reference: str) -> tuple[str, str | None]:
    name, _, revision = reference.removeprefix(PREFIX).partition("@")
    return name, revision or None


def _reason(error: Exception, revision: str | None, path: str = "") -> str:
    """Return in one line what went wrong, and the remedy if there is one."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return "its owner grants access one by one; ask for it on the hub, then set HF_TOKEN"
    refused = isinstance(error, errors.HfHubHTTPError) and error.response.status_code == 401
    # The hub says the same of a repository that is private.
    if refused or isinstance(error, errors.RepositoryNotFoundError):
        return "there is no such repository; if it is private, HF_TOKEN has to be a token for it"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"it has no revision {revision!r}"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"revision {revision!r} has no file {path!r}"
    if isinstance(error, errors.LocalEntryNotFoundError):
        cause = error.__cause__
    else:
        cause = None
    if isinstance(cause, errors.OfflineModeIsEnabled):
        return "it is not in the local cache, and HF_HUB_OFFLINE rules out the network"
    lines = [line.strip() for line in str(cause or error).splitlines() if line.strip()]
    if lines:
        reason = lines[0]
    else:
        reason = type(cause or error).__name__
    if cause is None:
        return reason
    return f"{constants.ENDPOINT} does not respond: {reason}"
