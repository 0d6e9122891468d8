"""Masked-language models: the head on a body, whole-word masks and the cloze probe."""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rarefy.pipeline.data.values import IGNORED
from rarefy.pipeline.model import safe_loading
from rarefy.pipeline.model.tokens import words
from rarefy.pipeline.stage import Context
from rarefy.pipeline.tasks.shared import losses
from rarefy.pipeline.terms.errors import ModelError
from rarefy.stages.inject.facts import WHOLE_TERM, Sentence
from rarefy.stages.training import run as training
from rarefy.stages.training.loop import collate
from rarefy.stages.training.parameters import Row, Training
from rarefy.stages.transfer import spans

MASKED_SHARE = 0.15


@dataclass(frozen=True)
class Word:
    """One word's tokens and characters; ``part`` is 0 in a pair's first text, 1 in its second."""

    tokens: tuple[int, ...]
    start: int
    end: int
    part: int


@dataclass(frozen=True)
class Encoded:
    """A tokenized text and its words."""

    row: Row
    words: list[Word]

    def inside(self, span: tuple[int, int]) -> list[Word]:
        """Return the words of the first text that overlap a span of characters."""
        start, end = span
        first_text = [word for word in self.words if word.part == 0]
        return [word for word in first_text if word.start < end and word.end > start]


def open_model(directory: Path) -> tuple[Any, bool]:
    """Return the masked-language model on the body in ``directory``, and whether its head is new.

    If the weights have no such head, a new one is built with the decoder tied to the input
    embeddings. Raises ModelError if the architecture has no masked-language model, or the weights
    are not those of transformers' own body, as after compression.
    """
    from transformers import AutoModelForMaskedLM

    safe_loading.check_plain(directory)
    try:
        model, report = safe_loading.from_folder(
            AutoModelForMaskedLM, directory, output_loading_info=True
        )
    except ValueError as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"inject: no masked-language model for this body: {reason}") from error
    except RuntimeError as error:
        raise ModelError(_misfit("has weights of other shapes")) from error
    prefix = f"{model.base_model_prefix}."
    new = False
    for name in sorted(report["missing_keys"]):
        if not name.startswith(prefix):
            new = True
        elif ".pooler." not in name:  # which transformers draws at random
            raise ModelError(_misfit(f"has no weights for {name}"))
    return model.float(), new


def _misfit(problem: str) -> str:
    return (
        f"inject: no masked-language model for this body: it {problem}; give the model as it was "
        "before it was compressed"
    )


def save_body(model: Any, tokenizer: Any, source: Path, output: Path) -> tuple[Any, dict[str, str]]:
    """Save the model's body without the head, as a plain body class; return it and its roles.

    The pooler, which masked-language models lack, is copied from ``source`` unchanged.
    """
    from transformers import AutoModel

    from rarefy.pipeline.model import checkpoint

    body = safe_loading.from_folder(AutoModel, source).float()
    missing = body.load_state_dict(model.base_model.state_dict(), strict=False).missing_keys
    if any(not name.startswith("pooler.") for name in missing):
        raise ModelError(
            f"inject: the masked-language model lacks weights of the body: {', '.join(missing)}"
        )
    return body, checkpoint.save(body, tokenizer, output)


def encode(
    tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int
) -> list[Encoded]:
    """Tokenize texts, cut them to ``max_length``, and locate their words.

    Words are those of the text, with punctuation apart: SentencePiece has it in the word before,
    and takes all that is written without spaces for one word. Words that share a token are one.
    """
    second = None if pairs is None else list(pairs)
    encoded = tokenizer(list(texts), second, truncation=True, max_length=max_length)
    rows = []
    for number, encoding in enumerate(encoded.encodings):
        words = _words(texts[number], 0, _offsets(encoding, 0))
        if pairs is not None:
            words += _words(pairs[number], 1, _offsets(encoding, 1))
        row = {key: encoded[key][number] for key in encoded}
        rows.append(Encoded(row, words))
    return rows


def _offsets(encoding: Any, part: int) -> dict[int, tuple[int, int]]:
    """Return the characters of each token of the first text (0) or of the second (1)."""
    offsets = {}
    for token, (sequence, span) in enumerate(
        zip(encoding.sequence_ids, encoding.offsets, strict=True)
    ):
        if sequence == part:
            offsets[token] = span
    return offsets


def _words(text: str, part: int, offsets: Mapping[int, tuple[int, int]]) -> list[Word]:
    """Return the words of a text that have tokens; ``offsets``: each token's characters."""
    places = _places(text)
    starts = [start for start, _ in places]
    ends = [end for _, end in places]
    joined = list(range(len(places)))
    tokens: dict[int, list[int]] = {}
    for token, (start, end) in offsets.items():
        first, last = bisect_right(ends, start), bisect_left(starts, end) - 1
        if first <= last:  # or it is a space
            word = joined[first]
            joined[first : last + 1] = [word] * (last + 1 - first)
            tokens.setdefault(word, []).append(token)
    last_of = {first: place for place, first in enumerate(joined)}
    words = []
    for first, word_tokens in tokens.items():
        # Of a word that is cut off, what is left.
        cut = offsets[word_tokens[-1]][1]
        end = min(ends[last_of[first]], cut)
        words.append(Word(tuple(word_tokens), starts[first], end, part))
    return words


def _places(text: str) -> list[tuple[int, int]]:
    """Return where the words of a text are, or its characters if it has no spaces between words."""
    characters, space = spans.units(text)
    if space:
        return words.split(text, words.OWN)
    places, end = [], 0
    for character in characters:
        start = text.index(character, end)
        end = start + len(character)
        places.append((start, end))
    return places


def masked(text: Encoded, words: Sequence[Word], mask: int) -> Row:
    """Return the row with all tokens of ``words`` masked, and labels only at those tokens.

    Tokens are always replaced by the mask, never by a random word; this costs no accuracy (Wettig
    et al. 2023, arXiv 2202.08005).
    """
    row = {key: list(values) for key, values in text.row.items()}
    row["labels"] = [IGNORED] * len(row["input_ids"])
    for word in words:
        for token in word.tokens:
            row["labels"][token] = row["input_ids"][token]
            row["input_ids"][token] = mask
    return row


def words_of_text(text: Encoded, draw: random.Random) -> list[Word]:
    """Draw 15% of the words, but at least one."""
    if not text.words:
        return []
    count = max(1, round(MASKED_SHARE * len(text.words)))
    return draw.sample(text.words, count)


def words_of_fact(text: Encoded, sentence: Sentence, draw: random.Random) -> list[Word]:
    """Draw the subject or, equally often, the object: all of a short one, words of a long one."""
    if draw.random() < 0.5:
        return text.inside(sentence.subject)
    words = text.inside(sentence.object)
    if len(words) <= WHOLE_TERM:
        return words
    return draw.sample(words, round(0.25 * len(words)))


def cloze_words(text: Encoded, sentence: Sentence) -> list[Word]:
    """Return what the probe asks for: a whole short object, or the longest word of a long one."""
    words = text.inside(sentence.object)
    if len(words) <= WHOLE_TERM:
        return words
    return [max(words, key=lambda word: word.end - word.start)]


def train_head(
    context: Context,
    parameters: Training,
    network: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    loss: MaskedTokenLoss,
) -> None:
    """Train a new head alone, in one pass over the rows, at ten times the body's learning rate.

    A new head answers at random, and would lead the body astray.
    """
    network.base_model.requires_grad_(False)
    rate = min(10 * parameters.learning_rate, 5e-3)
    faster = parameters.model_copy(update={"learning_rate": rate})
    training.train(context, faster, network, tokenizer, rows, loss, epochs=1, name="head")
    network.requires_grad_(True)


class MaskedTokenLoss:
    """Cross-entropy at the masked positions, which are the only ones decoded.

    Decoding every position would cost as much as the whole body, because the vocabulary is large.
    """

    def __init__(self, model: Any) -> None:
        self._masked: Tensor | None = None
        model.get_output_embeddings().register_forward_pre_hook(self._select)

    def _select(self, _: Any, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0][self._masked],)

    def logits(self, model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits (masked tokens, vocabulary) and the original tokens."""
        labels = batch.pop("labels")
        self._masked = labels != IGNORED
        return model(**batch).logits, labels[self._masked]

    def __call__(self, model: Any, batch: dict[str, Tensor]) -> Tensor:
        return losses.hard(*self.logits(model, batch))


def probe(
    context: Context, model: Any, tokenizer: Any, loss: MaskedTokenLoss, rows: Sequence[Row]
) -> Tensor:
    """Predict the masked tokens; return the rank of each true token, from 1.

    LAMA (Petroni et al. 2019, arXiv 1909.01066). A word of several tokens is predicted with all of
    them masked, and each token counts.
    """
    ranks: list[Tensor] = []
    model.to(context.device).eval()
    for start in range(0, len(rows), 32):
        batch = collate(rows[start : start + 32], tokenizer)
        for key, value in batch.items():
            batch[key] = value.to(context.device)
        with torch.inference_mode():
            logits, truth = loss.logits(model, batch)
        correct = logits.gather(1, truth[:, None])
        better = (logits > correct).sum(dim=1)
        ranks.append(better.cpu() + 1)
        done = min(start + 32, len(rows))
        context.progress(done, len(rows), "cloze probe")
    model.cpu()
    return torch.cat(ranks)
