"""Vocabularies from before tokenizer.json, which transformers converts when it loads them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

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


def restore_normalizer(tokenizer: Any, directory: Path) -> None:
    """Give a tokenizer the map of characters that the model was trained with, if it is lost.

    transformers builds the tokenizers of some families anew when it loads them, and DeBERTa-v2's
    without the map of sentencepiece: "…" and "ﬁ" would be other tokens than in training.
    """
    from tokenizers import models, normalizers

    backend = tokenizer.backend_tokenizer
    if not isinstance(backend.model, models.Unigram) or _has_map(backend.normalizer):
        return
    if (directory / TOKENIZER).is_file():
        published = type(backend).from_file(str(directory / TOKENIZER)).normalizer
        if _has_map(published):
            backend.normalizer = published
        return
    for path in (directory / name for name in SENTENCEPIECE):
        if path.is_file() and (characters := _character_map(path)):
            steps = [backend.normalizer] if backend.normalizer is not None else []
            backend.normalizer = normalizers.Sequence([normalizers.Precompiled(characters), *steps])


def _has_map(normalizer: Any) -> bool:
    return "Precompiled" in str(normalizer)


def _character_map(path: Path) -> bytes:
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(path.read_bytes())
    return bytes(model.normalizer_spec.precompiled_charsmap)
