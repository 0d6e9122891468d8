"""The rows that injection trains and probes with: facts and task text, tokenized and masked."""

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
"""The probe asks for at most this many facts of each kind."""

Lesson = tuple[Encoded, Sentence]


@dataclass(frozen=True)
class Lessons:
    """Facts to learn, facts held out, and the task's text. Every pass draws new masks.

    ``taught`` is what training uses: ``learned``, or in the control run ``learned`` shuffled.
    """

    taught: list[Lesson]
    learned: list[Lesson]
    held_out: list[Lesson]
    texts: list[Encoded]
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
        chosen: list[Encoded] = []
        while len(chosen) < count:
            chosen += self.draw.sample(self.texts, min(len(self.texts), count - len(chosen)))
        return asking([masked(text, words_of_text(text, self.draw), self.mask) for text in chosen])

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
    """Split the facts into learned and held out, verbalise them, and tokenize them and the text.

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
    texts: list[Encoded] = []
    for name in ("train", "unlabelled"):
        if name in context.splits:
            split = context.splits[name]
            texts += encode(tokenizer, split.texts, split.pairs, length)
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
