"""Upload a folder in the Hub's form, in one commit, with the Hub's own library.

``HF_ENDPOINT`` and ``HF_TOKEN`` work as its documentation says; so does a token that ``hf auth
login`` stored.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from pipeline.terms.errors import ProviderError, RecipeError

WEIGHTS = re.compile(r"(pytorch_)?model[^/]*\.(safetensors|bin)|onnx/[^/]+\.onnx")
"""What tools load by its name."""
SECRET = re.compile(r"hf_\w+|(?<=Bearer )\S+")
"""What a token looks like in the message of a library."""


def check(repository: str) -> None:
    """Raise RecipeError unless a repository has a name, a token is set and the network is allowed.

    Nothing is asked of the Hub.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError:
        valid = False
    else:
        valid = repository.count("/") == 1 and repository.isascii()
    if not valid:
        raise RecipeError(f"{repository!r} is no repository of the Hub; write OWNER/NAME")
    if constants.is_offline_mode():
        raise RecipeError("HF_HUB_OFFLINE rules out the network; unset it to push")
    if get_token() is None:
        raise RecipeError(
            "there is no token for the Hub; set HF_TOKEN to one that may write to the repository"
        )


def push(
    folder: Path, repository: str, *, private: bool, revision: str | None, message: str
) -> str:
    """Upload a folder's files to a repository, and return the address of the commit.

    The repository is made if there is none, and so is the branch ``revision``; files that are there
    under other names stay. Raises RecipeError if the token may not write there, or the Hub refuses
    what is uploaded, and ProviderError if it does not answer.
    """
    from huggingface_hub import HfApi, constants, errors

    check(repository)
    # Its remarks on the upload are for those who call the library.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    api = HfApi()
    try:
        api.create_repo(repository, private=private or None, exist_ok=True)
        if revision is not None:
            api.create_branch(repository, branch=revision, exist_ok=True)
        done = api.upload_folder(
            repo_id=repository, folder_path=folder, revision=revision, commit_message=message
        )
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            raise RecipeError(
                f"{repository}: the token may not write there ({status}); set HF_TOKEN to one that "
                "may"
            ) from None
        busy = status in (408, 429)  # too slow, or too often: it may be taken later
        kind = RecipeError if 400 <= status < 500 and not busy else ProviderError
        raise kind(f"{repository}: the Hub refused the upload: {_line(error)}") from None
    except Exception as error:
        raise ProviderError(
            f"{constants.ENDPOINT} does not answer as the Hub does: {_line(error)}"
        ) from None
    return str(done.commit_url)


def other_weights(folder: Path, repository: str, revision: str | None) -> list[str]:
    """Return the weights in a repository that are not of a folder which was uploaded there.

    Its config.json is, so tools that look for weights by their names may mix two models. Empty if
    the Hub does not say what is there.
    """
    from huggingface_hub import HfApi

    try:
        names = HfApi().list_repo_files(repository, revision=revision)
    except Exception:
        return []
    return sorted(n for n in names if WEIGHTS.fullmatch(n) and not (folder / n).exists())


def _line(error: BaseException) -> str:
    """Return an error, or what caused it, in one line without a token."""
    cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
    said = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return SECRET.sub("***", said[-1] if said else type(cause).__name__)
