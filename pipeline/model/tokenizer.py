"""Vocabularies from before tokenizer.json, which transformers converts when it loads them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from rarefy.pipeline.terms.errors import ModelError

TOKENIZER = "tokenizer.json"
TIKTOKEN = "tokenizer.model"
"""A name that both sentencepiece and tiktoken use; transformers tries one after the other."""
SENTENCEPIECE = ("sentencepiece.bpe.model", "spiece.model", "spm.model", TIKTOKEN)
VOCABULARIES = (TOKENIZER, "vocab.txt", "vocab.json", *SENTENCEPIECE)
SWITCHES = {
    "BertNormalizer": ("lowercase", "strip_accents", "handle_chinese_chars"),
    "ByteLevel": ("add_prefix_space",),
}
"""What tokenizer_config.json may say otherwise than tokenizer.json, which then does not count."""
PROBES = (
    "The FILM is naïve: Été, Straße, Œuvre, e\u0301!",
    "  two  spaces,\ttabs\nand lines\r\n ",
    "ﬁne… ｆｕｌｌ ① „so“ ``so''",
    "It's 12345 don't 3.14% state-of-the_art e-mail@example.org",
    "中文字符 映画です Фильм",
    "a\u00a0b\u200bc\x00d 🎬",
    "x" * 120,
)
"""Texts that tokenizers split differently: by case, accents, spaces, digits, ligatures, length."""


def check(directory: Path) -> None:
    """Raise ModelError if ``directory`` has no vocabulary, or one that cannot be converted here.

    For some of them transformers would return an empty tokenizer, or another than the model's.
    """
    present = [directory / name for name in VOCABULARIES if (directory / name).is_file()]
    if not present:
        raise ModelError(f"{directory}: {TOKENIZER} is missing")
    path = present[0]
    if path.name == "vocab.json" and not (directory / "merges.txt").is_file():
        raise ModelError(f"{directory}: vocab.json needs merges.txt next to it, which is missing")
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


def restore(tokenizer: Any, directory: Path) -> None:
    """Give a tokenizer what it read texts with in training, if transformers has lost it.

    transformers builds the tokenizers of most families anew when it loads them: with the published
    vocabulary, but with the normalizer, pre-tokenizer, options and template of special tokens that
    are usual in the family.
    """
    from transformers import PreTrainedTokenizerFast

    if type(tokenizer) is PreTrainedTokenizerFast:
        return  # the one class that takes tokenizer.json as it is
    if (directory / TOKENIZER).is_file():
        published = type(tokenizer.backend_tokenizer).from_file(str(directory / TOKENIZER))
        _restore_splitting(tokenizer.backend_tokenizer, published)
        typed = "token_type_ids" in tokenizer.model_input_names
        _restore_template(tokenizer.backend_tokenizer, published, typed)
    else:
        _restore_map(tokenizer.backend_tokenizer, directory)


def _restore_splitting(backend: Any, published: Any) -> None:
    """Set normalizer, pre-tokenizer and model to the published ones if they split otherwise.

    All or none: one normalizer may do what another family's pre-tokenizer does.
    """
    for part in ("normalizer", "pre_tokenizer"):
        setattr(published, part, _switched(getattr(published, part), getattr(backend, part)))
    for tokenizer_part in (backend, published):
        tokenizer_part.no_truncation()
        tokenizer_part.no_padding()
    if any(_split(published, text) != _split(backend, text) for text in PROBES):
        for part in ("normalizer", "pre_tokenizer", "model"):
            setattr(backend, part, getattr(published, part))


def _switched(published: Any, backend: Any) -> Any:
    """Return a published part with the switches that tokenizer_config.json overrides."""
    if type(published) is type(backend):
        for name in SWITCHES.get(type(backend).__name__, ()):
            setattr(published, name, getattr(backend, name))
    return published


def _split(tokenizer: Any, text: str) -> tuple[list[str], list[int]]:
    """Return the pieces that the model is given, and the tokens that it makes of them.

    Tokens alone do not suffice: two pieces that are not in the vocabulary are the same token.
    """
    normalizer = tokenizer.normalizer
    splitter = tokenizer.pre_tokenizer
    if normalizer is None:
        normal = text
    else:
        normal = normalizer.normalize_str(text)
    if splitter is None:
        pieces = [normal]
    else:
        pieces = [p for p, _ in splitter.pre_tokenize_str(normal)]
    return pieces, tokenizer.encode(text, add_special_tokens=False).ids


def _restore_template(backend: Any, published: Any, typed: bool) -> None:
    """Set the post-processor to the published one if it puts other special tokens around texts.

    It is left as it is if the published one adds no tokens, adds tokens that have other ids here,
    or each of the two adds a token that the other does not: then tokenizer_config.json names other
    special tokens. ``typed``: the model reads token types, so they count as well.
    """
    ours = _around(backend)
    theirs = _around(published)
    our_tokens = _special(ours)
    its = _special(theirs)
    has_tokens = all(backend.token_to_id(token) == index for token, index in its.items())
    if (
        not its
        or not has_tokens
        or not (its.keys() <= our_tokens.keys() or our_tokens.keys() <= its.keys())
    ):
        return
    pairs = list(zip(ours, theirs, strict=True))
    if any(a.ids != b.ids or (typed and a.type_ids != b.type_ids) for a, b in pairs):
        backend.post_processor = published.post_processor


def _around(tokenizer: Any) -> tuple[Any, Any]:
    """Return the encodings of a single text and of a pair."""
    return tokenizer.encode(PROBES[0]), tokenizer.encode(*PROBES[:2])


def _special(encodings: tuple[Any, Any]) -> dict[str, int]:
    """Return the special tokens in encodings, and their ids."""
    tokens: dict[str, int] = {}
    for encoding in encodings:
        rows = zip(encoding.tokens, encoding.ids, encoding.special_tokens_mask, strict=True)
        tokens |= {token: index for token, index, special in rows if special}
    return tokens


def _restore_map(backend: Any, directory: Path) -> None:
    """Give DeBERTa-v2's tokenizer the map of characters in the sentencepiece model.

    Without it, "…" and "ﬁ" would be other tokens than in training.
    """
    from tokenizers import models, normalizers

    if not isinstance(backend.model, models.Unigram) or "Precompiled" in str(backend.normalizer):
        return
    for path in (directory / name for name in SENTENCEPIECE):
        if path.is_file() and (characters := _character_map(path)):
            if backend.normalizer is not None:
                steps = [backend.normalizer]
            else:
                steps = []
            backend.normalizer = normalizers.Sequence([normalizers.Precompiled(characters), *steps])


def _character_map(path: Path) -> bytes:
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(path.read_bytes())
    return bytes(model.normalizer_spec.precompiled_charsmap)
