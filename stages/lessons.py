"""What an injection learns and asks for: facts and the task's text, tokenized and masked."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.stage import Context
from pipeline.terms.errors import DataError
from stages import knowledge
from stages.knowledge import Fact, Sentence
from stages.masked_lm import Encoded, cloze_words, encode, masked, words_of_fact, words_of_text
from stages.parameters import Row

PROBED = 1000
"""At most so many facts of a kind are asked for."""

Lesson = tuple[Encoded, Sentence]


@dataclass(frozen=True)
class Lessons:
    """Facts to learn, facts held out, and the task's text. Rows are masked anew for every pass.

    ``taught`` are the rows of the training: ``learned``, or in a control ``learned`` shuffled.
    """

    taught: list[Lesson]
    learned: list[Lesson]
    held_out: list[Lesson]
    texts: list[Encoded]
    mask: int
    draw: random.Random

    def rows(self, epochs: int, text_share: float) -> list[Row]:
        """Return every taught fact once a pass, and text so that it is ``text_share`` of all."""
        rows = [
            masked(text, words_of_fact(text, sentence, self.draw), self.mask)
            for _ in range(epochs)
            for text, sentence in self.taught
        ]
        return asking(rows) + self.text_rows(round(len(rows) * text_share / (1 - text_share)))

    def text_rows(self, count: int) -> list[Row]:
        """Return masked text of the task; more than there is repeats it under other masks."""
        chosen: list[Encoded] = []
        while len(chosen) < count:
            chosen += self.draw.sample(self.texts, min(len(self.texts), count - len(chosen)))
        return asking([masked(text, words_of_text(text, self.draw), self.mask) for text in chosen])

    def asked(self, held_out: bool) -> list[Row]:
        """Return the probe's rows: the same at every call."""
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
    """Split the facts into learned and held out, put them into words, tokenize them and the text.

    ``shuffled`` teaches each learned subject the object of another, and asks for its own.

    Raises DataError if the share held out leaves nothing to learn, or nothing to ask for within
    the recipe's max_length.
    """
    draw = random.Random(context.seed)  # noqa: S311
    length = context.task.max_length
    learned, kept = knowledge.split(facts, held_out, draw)

    def lessons_of(chosen: Sequence[Fact]) -> list[Lesson]:
        sentences = [knowledge.verbalise(fact, templates) for fact in chosen]
        encoded = encode(tokenizer, [each.text for each in sentences], None, length)
        return list(zip(encoded, sentences, strict=True))

    if not learned:
        raise DataError("inject: all facts read alike; none are left to learn if some are held out")
    own = lessons_of(learned)
    taught = lessons_of(knowledge.shuffled(learned, draw)) if shuffled else own
    texts: list[Encoded] = []
    for name in ("train", "unlabelled"):
        if name in context.splits:
            split = context.splits[name]
            texts += encode(tokenizer, split.texts, split.pairs, length)
    lessons = Lessons(taught, own, lessons_of(kept), texts, tokenizer.mask_token_id, draw)
    if not lessons.asked(True) or not lessons.asked(False):
        raise DataError(
            f"inject: {len(facts)} facts, {held_out:g} of them held out and cut to {length} "
            "tokens, leave none to learn or none to ask for"
        )
    return lessons


def asking(rows: list[Row]) -> list[Row]:
    """Leave out rows with nothing masked: what was to be masked was cut off."""
    return [row for row in rows if any(label >= 0 for label in row["labels"])]
