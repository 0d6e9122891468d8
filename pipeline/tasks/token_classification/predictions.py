"""What a user reads of a tagged text: its entities, with their characters and probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rarefy.pipeline.tasks.shared import formulas
from rarefy.pipeline.tasks.token_classification import entities, offsets

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DIGITS = 6
"""The decimals of a probability; a bundle's runner has the same."""


class Entities(NamedTuple):
    """A text's entities (type, text, start, end, score) and the tag of each of its words.

    ``start`` and ``end`` are characters, the end not included. ``score`` is the mean probability of
    the tags that the entity's words were given.
    """

    entities: list[dict[str, Any]]
    tags: list[str]

    def columns(self) -> list[str]:
        """Return the entities as a line's column."""
        told = [f"{found['type']}: {found['text']} ({found['score']:.3f})" for found in self[0]]
        return ["; ".join(told) or "no entities"]


class Tagged(NamedTuple):
    """A word's tag and its probability."""

    tag: str
    score: float

    def columns(self) -> list[str]:
        """Return the tag and its probability as a line's columns."""
        return [self.tag, f"{self.score:.3f}"]


def of_words(answers: NDArray[np.float64], labels: Sequence[str]) -> list[Tagged]:
    """Return each word's most probable tag; ``O`` for an answer that is NaN.

    ``answers``: words × tags.
    """
    names = [*labels, entities.OUTSIDE]
    best, shares = formulas.answers(answers), answers.round(DIGITS).tolist()
    return [
        Tagged(names[index], row[index] if index >= 0 else math.nan)
        for index, row in zip(best, shares, strict=True)
    ]


def of_text(
    text: str, words: Sequence[tuple[int, int]], tagged: Sequence[Tagged], labels: Sequence[str]
) -> Entities:
    """Return the entities of one text, whose tags are written in the scheme of ``labels``."""
    scheme = entities.scheme_of(labels)
    spans = entities.spans([word.tag for word in tagged], scheme)
    told = []
    for span, (start, end, kind) in zip(spans, offsets.characters_of(spans, words), strict=True):
        shares = [word.score for word in tagged[span.start : span.end]]
        score = round(sum(shares) / len(shares), DIGITS)
        told.append(
            {"type": kind, "text": text[start:end], "start": start, "end": end, "score": score}
        )
    return Entities(told, entities.tags_of(spans, len(words), scheme))


def in_words(words: Sequence[str], tags: Sequence[str], labels: Sequence[str]) -> str:
    """Return a sentence with its entities in brackets: ``lives in [City: New York]``."""
    shown, last = [], 0
    for start, end, kind in entities.spans(tags, entities.scheme_of(labels)):
        shown += [*words[last:start], f"[{kind}: {' '.join(words[start:end])}]"]
        last = end
    return " ".join([*shown, *words[last:]])
