"""The padding token of a tokenizer that names none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pipeline.terms.errors import ModelError

_BRACKETED = re.compile(r"\[.+\]|<.+>|\|.+\|")


def check(tokenizer: Any, directory: Path) -> None:
    """Give a tokenizer without a padding token the one that ``pad_token_id`` in the config means.

    The model counts positions from that id (RoBERTa) and keeps its embedding at zero, so no other
    token will do. A word of the language is not taken: as a special token it would be cut out of
    texts. Raises ModelError with the remedy if there is none.
    """
    if tokenizer.pad_token_id is not None:
        return
    token = _named_by_config(tokenizer, directory)
    if token is None:
        raise ModelError(
            "the tokenizer has no padding token, which rows of different lengths need in a batch; "
            'add "pad_token" to the model\'s tokenizer_config.json'
        )
    tokenizer.pad_token = token


def _named_by_config(tokenizer: Any, directory: Path) -> str | None:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(
            str(directory), local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError):
        return None
    index = getattr(config, "pad_token_id", None)
    if not isinstance(index, int):
        return None
    tokens: dict[int, str] = {at: token for token, at in tokenizer.get_vocab().items()}
    token = tokens.get(index)
    if token is None or not (token in tokenizer.all_special_tokens or _BRACKETED.fullmatch(token)):
        return None
    return token
