"""Token classification: entities of tagged words, and their scores by weights of sentences.

The spans are those of CoNLL's script ``conlleval``, and of seqeval by default: every tagging is
read (``I-`` without ``B-`` opens a span, a change of type too).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from rarefy.pipeline.tasks.shared.formulas import Floats, Labels, Score
from rarefy.pipeline.tasks.shared.means import ratio

Scheme = Literal["BIO", "BIOES", "IO", "bare"]
OUTSIDE = "O"
UNTYPED = "_"
"""The type of the entity of a tag that is a letter only, as in seqeval."""


class Span(NamedTuple):
    """A stretch with a type: words ``start`` to ``end`` (or characters), the end not included."""

    start: int
    end: int
    type: str


class Counts(NamedTuple):
    """The number of entities in each sentence: rightly predicted, predicted, and in the truth."""

    correct: Floats
    predicted: Floats
    true: Floats


def scheme_of(tags: Iterable[str]) -> Scheme:
    """Return the scheme of a set of tags.

    ``bare``: at least one tag other than ``O`` has no prefix (``street``); ``IO``: all prefixes are
    ``I-``; ``BIOES``: there is an ``E-`` or ``S-``. The letters alone (``B``, ``I``, ``O``) are
    tags of entities without a type.
    """
    names = set(tags) - {OUTSIDE}
    untyped = names <= set("BIES")
    marks = {tag[:1] if untyped or _has_prefix(tag) else "" for tag in names}
    if "" in marks:
        return "bare"
    if marks & {"E", "S"}:
        return "BIOES"
    return "IO" if marks == {"I"} else "BIO"


def spans(tags: Sequence[str], scheme: Scheme = "BIO") -> list[Span]:
    """Return the spans of a sentence's tags, in order.

    With ``bare`` tags, each run of the same tag is a span; with ``IO``, each run of the same type.
    """
    if scheme == "bare":
        tags = [tag if tag == OUTSIDE else f"I-{tag}" for tag in tags]
    parts = [(tag[:1], tag[1:].split("-", 1)[-1] or UNTYPED) for tag in tags]
    parts.append((OUTSIDE, UNTYPED))
    found, start, before, kind_before = [], 0, OUTSIDE, UNTYPED
    for at, (mark, kind) in enumerate(parts):
        inside = mark not in ("O", ".")
        was_inside = before not in ("O", ".")
        changed = kind != kind_before
        closed = before in ("E", "S") or mark in ("B", "S", "O", ".")
        if was_inside and (closed or changed):
            found.append(Span(start, at, kind_before))
        if inside and (mark in ("B", "S") or before in ("E", "S", "O", ".") or changed):
            start = at
        before, kind_before = mark, kind
    return found


def tags_of(found: Iterable[Span], words: int, scheme: Scheme = "BIO") -> list[str]:
    """Return the tags of a sentence with these spans of words, which must not overlap."""
    tags = [OUTSIDE] * words
    for start, end, kind in found:
        after = "" if kind == UNTYPED else f"-{kind}"
        tags[start:end] = [kind if scheme == "bare" else f"I{after}"] * (end - start)
        if scheme in ("BIO", "BIOES"):
            tags[start] = f"B{after}"
        if scheme == "BIOES":
            tags[end - 1] = f"{'S' if end - start == 1 else 'E'}{after}"
    return tags


def counts(
    answered: Iterable[Sequence[str]], truth: Iterable[Sequence[str]], scheme: Scheme = "BIO"
) -> Counts:
    """Return the entities of each sentence. ``answered``, ``truth``: each sentence's tags."""
    table = []
    for pair in zip(answered, truth, strict=True):
        ours, theirs = (set(spans(tags, scheme)) for tags in pair)
        table.append([len(ours & theirs), len(ours), len(theirs)])
    return Counts(*np.array(table, dtype=float).reshape(-1, 3).T.copy())


def f1(found: Counts) -> Score:
    """Return the F1 of all entities (micro) as a function of sentence weights.

    It is 0 if a draw has no entities at all.
    """
    return ratio(2 * found.correct, found.predicted + found.true)


def same_tag_f1(truth: Iterable[Sequence[str]], names: Iterable[str], scheme: Scheme) -> float:
    """Return the best F1 of an answer that gives every word the same tag of ``names``."""
    alone, whole = Counter[str](), Counter[str]()
    sentences = words = true = 0
    for tags in truth:
        found = spans(tags, scheme)
        sentences, words, true = sentences + 1, words + len(tags), true + len(found)
        alone.update(span.type for span in found if span.end - span.start == 1)
        whole.update(span.type for span in found if span.end - span.start == len(tags))
    best = 0.0
    for name in set(names) - {OUTSIDE}:
        two = spans([name, name], scheme)
        # Each word becomes an entity, as with B-, or all words of a sentence together.
        right, given = (alone, words) if len(two) == 2 else (whole, sentences)
        best = max(best, 2 * right[two[0].type] / (given + true))
    return best


def precision(found: Counts) -> Score:
    """Return the share of predicted entities that are right; 0 if none is predicted."""
    return ratio(found.correct, found.predicted)


def recall(found: Counts) -> Score:
    """Return the share of true entities that are found; 0 if there are none."""
    return ratio(found.correct, found.true)


def token_accuracy(right: np.ndarray, lengths: Sequence[int]) -> Score:
    """Return the share of words with the right tag as a function of sentence weights.

    ``right``: words of all sentences; ``lengths``: each sentence's number of words.
    """
    sentence = np.repeat(np.arange(len(lengths)), lengths)
    hits = np.bincount(sentence, np.asarray(right, dtype=float), len(lengths)).astype(float)
    return ratio(hits, np.asarray(lengths, dtype=float))


def tagged(indices: Labels, labels: Sequence[str], lengths: Sequence[int]) -> list[list[str]]:
    """Return each sentence's tags from the label indices of all words; ``O`` for an index of -1."""
    names = [*labels, OUTSIDE]  # -1 is the last
    ends = np.cumsum(lengths)
    return [
        [names[index] for index in indices[end - length : end]]
        for length, end in zip(lengths, ends, strict=True)
    ]


def _has_prefix(tag: str) -> bool:
    return len(tag) > 2 and tag[0] in "BIES" and tag[1] == "-"
