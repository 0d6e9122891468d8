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
from rarefy.pipeline.tasks.shared.means import mean, ratio, undefined

Scheme = Literal["BIO", "BIOES", "IO", "bare"]
OUTSIDE = "O"
NO_ENTITY = (OUTSIDE, ".")
"""The letters of tags that are in no entity."""
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
    if not untyped and not all(map(_has_prefix, names)):
        return "bare"
    marks = {tag[:1] for tag in names}
    if marks & {"E", "S"}:
        return "BIOES"
    return "IO" if marks == {"I"} else "BIO"


def spans(tags: Sequence[str], scheme: Scheme = "BIO") -> list[Span]:
    """Return the spans of a sentence's tags, in order.

    With ``bare`` tags, each run of the same tag is a span; with ``IO``, each run of the same type.
    """
    if scheme == "bare":
        tags = [tag if tag == OUTSIDE else f"I-{tag}" for tag in tags]
    spans: list[Span] = []
    start = 0
    last_mark, last_type = OUTSIDE, UNTYPED
    for at, tag in enumerate([*tags, OUTSIDE]):
        mark = tag[:1]
        kind = tag[1:].split("-", 1)[-1] or UNTYPED
        is_other = kind != last_type
        ends = last_mark in ("E", "S") or mark in ("B", "S", *NO_ENTITY)
        if last_mark not in NO_ENTITY and (ends or is_other):
            spans.append(Span(start, at, last_type))
        begins = mark in ("B", "S") or last_mark in ("E", "S", *NO_ENTITY)
        if mark not in NO_ENTITY and (begins or is_other):
            start = at
        last_mark, last_type = mark, kind
    return spans


def types(tags: Iterable[str]) -> list[str]:
    """Return the types of entities that some tags mark, sorted."""
    names = list(tags)
    scheme = scheme_of(names)
    kinds = set[str]()
    for tag in names:
        kinds.update(span.type for span in spans([tag], scheme))
    return sorted(kinds)


def tags_of(spans: Iterable[Span], words: int, scheme: Scheme = "BIO") -> list[str]:
    """Return the tags of a sentence with these spans of words, which must not overlap."""
    tags = [OUTSIDE] * words
    for start, end, kind in spans:
        after = "" if kind == UNTYPED else f"-{kind}"
        inside = kind if scheme == "bare" else f"I{after}"
        tags[start:end] = [inside] * (end - start)
        if scheme in ("BIO", "BIOES"):
            tags[start] = f"B{after}"
        if scheme == "BIOES":
            mark = "S" if end - start == 1 else "E"
            tags[end - 1] = f"{mark}{after}"
    return tags


def counts(
    predicted: Iterable[Sequence[str]], truth: Iterable[Sequence[str]], scheme: Scheme = "BIO"
) -> Counts:
    """Return the entities of each sentence. ``predicted``, ``truth``: each sentence's tags."""
    rows = []
    for predicted_tags, true_tags in zip(predicted, truth, strict=True):
        ours, theirs = set(spans(predicted_tags, scheme)), set(spans(true_tags, scheme))
        rows.append([len(ours & theirs), len(ours), len(theirs)])
    table = np.array(rows, dtype=float).reshape(-1, 3)
    return Counts(*table.T.copy())


def f1(counts: Counts) -> Score:
    """Return the F1 of all entities (micro) as a function of sentence weights.

    It is 0 if a draw has no entities at all. Without a true entity in any sentence there is none.
    """
    if not counts.true.any():
        return undefined
    return ratio(2 * counts.correct, counts.predicted + counts.true)


def same_tag_f1(truth: Iterable[Sequence[str]], names: Iterable[str], scheme: Scheme) -> float:
    """Return the best F1 of a prediction that gives every word the same tag of ``names``."""
    of_one_word, of_sentence = Counter[str](), Counter[str]()
    sentences = words = true = 0
    for tags in truth:
        entities = spans(tags, scheme)
        sentences += 1
        words += len(tags)
        true += len(entities)
        for entity in entities:
            length = entity.end - entity.start
            of_one_word[entity.type] += length == 1
            of_sentence[entity.type] += length == len(tags)
    best = 0.0
    for name in set(names) - {OUTSIDE}:
        two = spans([name, name], scheme)
        kind = two[0].type
        # All words of a sentence become one entity; with B-, each word becomes one.
        correct, predicted = of_sentence[kind], sentences
        if len(two) == 2:
            correct, predicted = of_one_word[kind], words
        best = max(best, 2 * correct / (predicted + true))
    return best


def precision(counts: Counts) -> Score:
    """Return the share of predicted entities that are right; 0 if none of some is predicted."""
    if counts.true.any() and not counts.predicted.any():
        return mean(counts.correct)
    return ratio(counts.correct, counts.predicted)


def recall(counts: Counts) -> Score:
    """Return the share of true entities that are found; there is none without any."""
    return ratio(counts.correct, counts.true)


def token_accuracy(correct: np.ndarray, lengths: Sequence[int]) -> Score:
    """Return the share of words with the true tag as a function of sentence weights.

    Args:
        correct: whether the tag of each word of all sentences is correct, (words,).
        lengths: each sentence's number of words.
    """
    sentence = np.repeat(np.arange(len(lengths)), lengths)
    weights = np.asarray(correct, dtype=float)
    hits = np.bincount(sentence, weights, len(lengths)).astype(float)
    return ratio(hits, np.asarray(lengths, dtype=float))


def tagged(indices: Labels, labels: Sequence[str], lengths: Sequence[int]) -> list[list[str]]:
    """Return each sentence's tags from the label indices of all words; ``O`` for an index of -1."""
    names = [*labels, OUTSIDE]  # -1 is the last
    sentences = []
    start = 0
    for length in lengths:
        end = start + length
        sentences.append([names[index] for index in indices[start:end]])
        start = end
    return sentences


def _has_prefix(tag: str) -> bool:
    return len(tag) > 2 and tag[0] in "BIES" and tag[1] == "-"
