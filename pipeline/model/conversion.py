"""Vocabularies from before tokenizer.json, which transformers converts when it loads them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from pipeline.terms.errors import ModelError

TOKENIZER = "tokenizer.json"
TIKTOKEN = "tokenizer.model"
"""A name that both sentencepiece and tiktoken use; transformers tries one after the other."""
SENTENCEPIECE = ("sentencepiece.bpe.model", "spiece.model", "spm.model", TIKTOKEN)
VOCABULARIES = (TOKENIZER, "vocab.txt", "vocab.json", *SENTENCEPIECE)


def check(directory: Path) -> None:
    """Raise ModelError if ``directory`` has no vocabulary, or one that cannot be converted here.

    For some of them transformers would return an empty tokenizer, or another than the model's.
    """
    found = [directory / name for name in VOCABULARIES if (directory / name).is_file()]
    if not found:
        raise ModelError(f"{directory}: {TOKENIZER} is missing")
    path = found[0]
    if path.name == "vocab.json" and not (directory / "merges.txt").is_file():
        raise ModelError(f"{directory}: vocab.json needs merges.txt beside it, which is missing")
    if path.name in SENTENCEPIECE:
        _check_sentencepiece(path)


def _check_sentencepiece(path: Path) -> None:
    if importlib.util.find_spec("sentencepiece") is None:
        raise ModelError(
            f"{path}: converting it to {TOKENIZER} needs another library: pip install sentencepiece"
        )
    if path.name == TIKTOKEN:
        return
    from sentencepiece import SentencePieceProcessor

    try:
        SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError) as error:
        raise ModelError(f"{path}: not a sentencepiece model") from error
