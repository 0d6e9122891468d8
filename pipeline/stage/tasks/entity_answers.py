"""What a user reads of a tagged text: its entities, with their characters and probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.stage import formulas
from pipeline.stage.scoring import entities, offsets

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
        parts = []
        for entity in self.entities:
            parts.append(f"{entity['type']}: {entity['text']} ({entity['score']:.3f})")
        return ["; ".join(parts) or "no entities"]


class Tagged(NamedTuple):
    """A word's tag and its probability."""

    tag: str
    score: float

    def columns(self) -> list[str]:
        """Return the tag and its probability as a line's columns."""
        return [self.tag, f"{self.score:.3f}"]


def of_words(predictions: NDArray[np.float64], labels: Sequence[str]) -> list[Tagged]:
    """Return each word's most probable tag; ``O`` for a prediction that is NaN.

    ``predictions``: (words, tags).
    """
    names = [*labels, entities.OUTSIDE]
    rows = predictions.round(DIGITS).tolist()
    tagged = []
    for index, shares in zip(formulas.answers(predictions), rows, strict=True):
        share = shares[index] if index >= 0 else math.nan
        tagged.append(Tagged(names[index], share))
    return tagged


def of_text(
    text: str, words: Sequence[tuple[int, int]], tagged: Sequence[Tagged], labels: Sequence[str]
) -> Entities:
    """Return the entities of one text.

    Args:
        text: as a user wrote it.
        words: the first character of each word and the one after its last.
        tagged: each word's tag.
        labels: the tags of the model, in whose scheme the tags are written.
    """
    scheme = entities.scheme_of(labels)
    spans = entities.spans([word.tag for word in tagged], scheme)
    rows = []
    for span, (start, end, kind) in zip(spans, offsets.characters_of(spans, words), strict=True):
        shares = [word.score for word in tagged[span.start : span.end]]
        score = round(sum(shares) / len(shares), DIGITS)
        rows.append(
            {"type": kind, "text": text[start:end], "start": start, "end": end, "score": score}
        )
    return Entities(rows, entities.tags_of(spans, len(words), scheme))


def in_words(words: Sequence[str], tags: Sequence[str], labels: Sequence[str]) -> str:
    """Return a sentence with its entities in brackets: ``lives in [City: New York]``."""
    pieces: list[str] = []
    last = 0
    for start, end, kind in entities.spans(tags, entities.scheme_of(labels)):
        pieces += words[last:start]
        entity = " ".join(words[start:end])
        pieces.append(f"[{kind}: {entity}]")
        last = end
    pieces += words[last:]
    return " ".join(pieces)
