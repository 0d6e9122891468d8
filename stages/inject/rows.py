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

Lesson = tuple[Encoded, Sentence]


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
            found: dict[int, Encoded] = {}
            first = 0
            for split in self.splits:
                own = [place for place in chunk if first <= place < first + len(split)]
                texts = [split.texts[place - first] for place in own]
                pairs = split.pairs and [split.pairs[place - first] for place in own]
                if own:
                    encoded = encode(self.tokenizer, texts, pairs, self.length)
                    found |= zip(own, encoded, strict=True)
                first += len(split)
            yield from (found[place] for place in chunk)


@dataclass(frozen=True)
class Lessons:
    """Facts to learn, facts held out, and the task's text. Every pass draws new masks.

    ``taught`` is what training uses: ``learned``, or in the control run ``learned`` shuffled.
    """

    taught: list[Lesson]
    learned: list[Lesson]
    held_out: list[Lesson]
    texts: TaskTexts
    mask: int
    draw: random.Random

    def rows(self, epochs: int, text_share: float) -> list[Row]:
        """Return every taught fact once per pass, and text to make ``text_share`` of all rows."""
        rows = [
            masked(text, words_of_fact(text, sentence, self.draw), self.mask)
            for _ in range(epochs)
            for text, sentence in self.taught
        ]
        return asking(rows) + self.text_rows(round(len(rows) * text_share / (1 - text_share)))

    def text_rows(self, count: int) -> list[Row]:
        """Return ``count`` masked task texts, repeated with other masks if there are fewer."""
        places, chosen = range(len(self.texts)), list[int]()
        while len(chosen) < count:
            chosen += self.draw.sample(places, min(len(places), count - len(chosen)))
        texts = self.texts.encoded(chosen)
        return asking([masked(text, words_of_text(text, self.draw), self.mask) for text in texts])

    def asked(self, held_out: bool) -> list[Row]:
        """Return the probe's rows, which are the same at every call."""
        facts = (self.held_out if held_out else self.learned)[:PROBED]
        return asking([masked(text, cloze_words(text, s), self.mask) for text, s in facts])


def prepare(
    context: Context,
    tokenizer: Any,
    facts: Sequence[Fact],
    *,
    held_out: float,
    templates: Mapping[str, str],
    shuffled: bool = False,
) -> Lessons:
    """Split the facts into learned and held out, verbalise them, and tokenize them.

    With ``shuffled``, each learned subject is taught with the object of another fact, and the probe
    asks for its own object. Facts of relations that have one object are not taught.

    Raises DataError if nothing is left to learn or to shuffle, or nothing to ask for within the
    recipe's max_length.
    """
    draw = random.Random(context.seed)  # noqa: S311
    length = context.task.max_length
    learned, kept = knowledge.split(facts, held_out, draw)

    def lessons_of(chosen: Sequence[Fact]) -> list[Lesson]:
        sentences = [knowledge.verbalise(fact, templates) for fact in chosen]
        encoded = encode(tokenizer, [each.text for each in sentences], None, length)
        return list(zip(encoded, sentences, strict=True))

    if not learned:
        raise DataError("inject: all facts read alike, so holding some out leaves nothing to learn")
    own = lessons_of(learned)
    dealt = knowledge.shuffled(learned, draw) if shuffled else learned
    if not dealt:
        raise DataError(
            "inject.shuffled: no relation of the learned facts has two objects, so none can be "
            "shuffled"
        )
    taught = lessons_of(dealt) if shuffled else own
    splits = [context.splits[name] for name in ("train", "unlabelled") if name in context.splits]
    texts = TaskTexts(tokenizer, splits, length)
    lessons = Lessons(taught, own, lessons_of(kept), texts, tokenizer.mask_token_id, draw)
    if not lessons.asked(True) or not lessons.asked(False):
        raise DataError(
            f"inject: with a share of {held_out:g} held out and texts cut to {length} tokens, "
            f"{len(facts)} facts leave none to learn or none to probe"
        )
    return lessons


def asking(rows: list[Row]) -> list[Row]:
    """Drop rows in which nothing is masked because the masked words were cut off."""
    return [row for row in rows if any(label >= 0 for label in row["labels"])]
