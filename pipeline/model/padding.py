"""Padding tokens for tokenizers and configs that do not define one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rarefy.pipeline.model import safe_loading
from rarefy.pipeline.model.architectures.families import SHIFTED
from rarefy.pipeline.terms.errors import ModelError

_BRACKETED = re.compile(r"\[.+\]|<.+>|\|.+\|")


def check(tokenizer: Any, directory: Path) -> None:
    """Set a missing padding token to the token of ``pad_token_id`` in the model's config.

    No other token works: RoBERTa counts positions from that id, and its embedding stays zero. An
    ordinary word is not accepted, because as a special token it would be removed from texts.
    Raises ModelError with the remedy if there is no such token.
    """
    if tokenizer.pad_token_id is not None:
        return
    token = _named_by_config(tokenizer, directory)
    if token is None:
        raise ModelError(
            "the tokenizer has no padding token, which batches of rows with different lengths "
            'need; add "pad_token" to the model\'s tokenizer_config.json'
        )
    tokenizer.pad_token = token


def note(config: Any, tokenizer: Any) -> None:
    """Set the ``pad_token_id`` of a model's config in place: the tokenizer's.

    Decoders answer at the last token that is another one. If positions are counted from the
    config's own, that one stays.
    """
    padding = getattr(config, "pad_token_id", 0)
    if padding is None or config.model_type not in SHIFTED:
        config.pad_token_id = tokenizer.pad_token_id


def _named_by_config(tokenizer: Any, directory: Path) -> str | None:
    from transformers import AutoConfig

    try:
        config = safe_loading.from_folder(AutoConfig, directory)
    except (OSError, ValueError, ModelError):
        return None
    index = getattr(config, "pad_token_id", None)
    if not isinstance(index, int):
        return None
    tokens: dict[int, str] = {at: token for token, at in tokenizer.get_vocab().items()}
    token = tokens.get(index)
    if token is None or not (token in tokenizer.all_special_tokens or _BRACKETED.fullmatch(token)):
        return None
    return token
