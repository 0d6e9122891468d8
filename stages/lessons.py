"""What an injection learns and asks for: facts and the task's text, tokenized and masked."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.stage import Context
from pipeline.terms.errors import DataError
from stages.knowledge import Sentence
from stages.masked_lm import Encoded, cloze_words, encode, masked, words_of_fact, words_of_text
from stages.parameters import Row

PROBED = 1000
"""At most so many facts of a kind are asked for."""

Lesson = tuple[Encoded, Sentence]


@dataclass(frozen=True)
class Lessons:
    """Facts to learn, facts held out, and the task's text. Rows are masked anew for every pass."""

    learned: list[Lesson]
    held_out: list[Lesson]
    texts: list[Encoded]
    mask: int
    draw: random.Random

    def rows(self, epochs: int, text_share: float) -> list[Row]:
        """Return every learned fact once a pass, and text so that it is ``text_share`` of all."""
        rows = [
            masked(text, words_of_fact(text, sentence, self.draw), self.mask)
            for _ in range(epochs)
            for text, sentence in self.learned
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
    context: Context, tokenizer: Any, sentences: Sequence[Sentence], held_out: float
) -> Lessons:
    """Split the facts at random into learned and held out, and tokenize them and the text.

    Raises DataError where the share held out leaves nothing to learn, or nothing to ask for
    within the recipe's max_length.
    """
    draw = random.Random(context.seed)  # noqa: S311
    shuffled = draw.sample(sentences, len(sentences))
    count = max(1, round(held_out * len(shuffled)))
    length = context.task.max_length
    encoded = encode(tokenizer, [sentence.text for sentence in shuffled], None, length)
    facts = list(zip(encoded, shuffled, strict=True))
    texts: list[Encoded] = []
    for name in ("train", "unlabelled"):
        if name in context.splits:
            split = context.splits[name]
            texts += encode(tokenizer, split.texts, split.pairs, length)
    lessons = Lessons(facts[count:], facts[:count], texts, tokenizer.mask_token_id, draw)
    if not lessons.asked(True) or not lessons.asked(False):
        raise DataError(
            f"inject: {len(facts)} facts, {held_out:g} of them held out and cut to {length} "
            "tokens, leave none to learn or none to ask for"
        )
    return lessons


def asking(rows: list[Row]) -> list[Row]:
    """Leave out rows with nothing masked: what was to be masked was cut off."""
    return [row for row in rows if any(label >= 0 for label in row["labels"])]
