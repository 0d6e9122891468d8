"""The rows that injection trains and probes with: facts and task text, tokenized and masked."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.stage import Context
from rarefy.pipeline.terms.errors import DataError
from rarefy.stages.inject import facts as knowledge
from rarefy.stages.inject.facts import Fact, Sentence
from rarefy.stages.inject.masked_lm import (
    Encoded,
    cloze_words,
    encode,
    masked,
    words_of_fact,
    words_of_text,
)
from rarefy.stages.training import run as training
from rarefy.stages.training.parameters import Row

PROBED = 1000
"""The probe asks for at most this many facts of each kind."""

EncodedFact = tuple[Encoded, Sentence]


@dataclass(frozen=True)
class TaskTexts:
    """The texts of splits, one split after another; they are tokenized when they are drawn."""

    tokenizer: Any
    splits: Sequence[Split]
    length: int

    def __len__(self) -> int:
        return sum(map(len, self.splits))

    def encoded(self, places: Sequence[int]) -> Iterator[Encoded]:
        """Yield the texts at some places, in their order."""
        for start in range(0, len(places), training.CHUNK):
            chunk = places[start : start + training.CHUNK]
            by_place: dict[int, Encoded] = {}
            first = 0
            for split in self.splits:
                inside = [place for place in chunk if first <= place < first + len(split)]
                if inside:
                    rows = self._encode(split, [place - first for place in inside])
                    by_place.update(zip(inside, rows, strict=True))
                first += len(split)
            for place in chunk:
                yield by_place[place]

    def _encode(self, split: Split, rows: Sequence[int]) -> list[Encoded]:
        """Return some rows of a split."""
        texts = [split.texts[row] for row in rows]
        pairs = split.pairs and [split.pairs[row] for row in rows]
        return encode(self.tokenizer, texts, pairs, self.length)


@dataclass(frozen=True)
class InjectionRows:
    """Facts to learn, facts held out, and the task's text. Every pass draws new masks.

    Attributes:
        taught: what training uses: ``learned``, or in the control run ``learned`` shuffled.
        learned: the facts to learn.
        held_out: the facts that only the probe asks for.
        texts: the task's text.
        mask: the id of the mask token.
        draw: draws texts and masks.
    """

    taught: list[EncodedFact]
    learned: list[EncodedFact]
    held_out: list[EncodedFact]
    texts: TaskTexts
    mask: int
    draw: random.Random

    def rows(self, epochs: int, text_share: float) -> list[Row]:
        """Return every taught fact once per pass, and text to make ``text_share`` of all rows."""
        rows = []
        for _ in range(epochs):
            for text, sentence in self.taught:
                words = words_of_fact(text, sentence, self.draw)
                rows.append(masked(text, words, self.mask))
        texts = round(len(rows) * text_share / (1 - text_share))
        return with_masks(rows) + self.text_rows(texts)

    def text_rows(self, count: int) -> list[Row]:
        """Return ``count`` masked task texts, repeated with other masks if there are fewer."""
        places, chosen = range(len(self.texts)), list[int]()
        while len(chosen) < count:
            few = min(len(places), count - len(chosen))
            chosen += self.draw.sample(places, few)
        rows = []
        for text in self.texts.encoded(chosen):
            words = words_of_text(text, self.draw)
            rows.append(masked(text, words, self.mask))
        return with_masks(rows)

    def probe_rows(self, held_out: bool) -> list[Row]:
        """Return the probe's rows, which are the same at every call."""
        facts = self.held_out if held_out else self.learned
        rows = []
        for text, sentence in facts[:PROBED]:
            words = cloze_words(text, sentence)
            rows.append(masked(text, words, self.mask))
        return with_masks(rows)


def prepare(
    context: Context,
    tokenizer: Any,
    facts: Sequence[Fact],
    *,
    held_out: float,
    templates: Mapping[str, str],
    shuffled: bool = False,
) -> InjectionRows:
    """Split the facts into learned and held out, verbalise them, and tokenize them.

    Args:
        context: the run's context.
        tokenizer: the model's tokenizer.
        facts: distinct facts.
        held_out: the share of facts to hold out.
        templates: the recipe's templates by relation.
        shuffled: teach each learned subject with the object of another fact; the probe asks for
            its own object. Facts of relations that have one object are not taught.

    Raises:
        DataError: if nothing is left to learn or to shuffle, or nothing to ask for within the
            recipe's max_length.
    """
    draw = random.Random(context.seed)  # noqa: S311
    length = context.task.max_length
    learned, reserved = knowledge.split(facts, held_out, draw)

    def encoded(facts: Sequence[Fact]) -> list[EncodedFact]:
        sentences = [knowledge.verbalise(fact, templates) for fact in facts]
        texts = [sentence.text for sentence in sentences]
        return list(zip(encode(tokenizer, texts, None, length), sentences, strict=True))

    if not learned:
        raise DataError("inject: all facts are alike, so holding some out leaves nothing to learn")
    learned_rows = encoded(learned)
    taught_rows = learned_rows
    if shuffled:
        dealt = knowledge.shuffled(learned, draw)
        if not dealt:
            raise DataError(
                "inject.shuffled: no relation of the learned facts has two objects, so none can be "
                "shuffled"
            )
        taught_rows = encoded(dealt)
    splits = [context.splits[name] for name in ("train", "unlabelled") if name in context.splits]
    rows = InjectionRows(
        taught=taught_rows,
        learned=learned_rows,
        held_out=encoded(reserved),
        texts=TaskTexts(tokenizer, splits, length),
        mask=tokenizer.mask_token_id,
        draw=draw,
    )
    if not rows.probe_rows(True) or not rows.probe_rows(False):
        raise DataError(
            f"inject: with a share of {held_out:g} held out and texts cut to {length} tokens, "
            f"{len(facts)} facts leave none to learn or none to probe"
        )
    return rows


def with_masks(rows: list[Row]) -> list[Row]:
    """Drop rows in which nothing is masked because the masked words were cut off."""
    return [row for row in rows if any(label >= 0 for label in row["labels"])]
