"""Token classification: entities of tagged words, and their scores by weights of sentences.

The spans are seqeval's: by default those of CoNLL's script ``conlleval``, which reads every tagging
(``I-`` without ``B-`` opens a span, a change of type too); with ``strict``, only whole spans of the
scheme count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from pipeline.stage import formulas
from pipeline.stage.formulas import Floats, Labels, Score
from pipeline.stage.scoring.means import ratio

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
    """Entities per sentence and type: rightly predicted, predicted, and in the truth.

    Each is sentences × ``types``.
    """

    correct: Floats
    predicted: Floats
    true: Floats
    types: tuple[str, ...]


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


def spans(tags: Sequence[str], scheme: Scheme = "BIO", strict: bool = False) -> list[Span]:
    """Return the spans of a sentence's tags, in order.

    With ``bare`` tags, each run of the same tag is a span; with ``IO``, each run of the same type.
    """
    if scheme == "bare":
        tags = [tag if tag == OUTSIDE else f"I-{tag}" for tag in tags]
    parts = [(tag[:1], tag[1:].split("-", 1)[-1] or UNTYPED) for tag in tags]
    parts.append((OUTSIDE, UNTYPED))
    if strict and scheme == "BIOES":
        return _whole(parts)
    if strict and scheme == "BIO":
        return _opened(parts)
    return _conll(parts)


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
    answered: Iterable[Sequence[str]],
    truth: Iterable[Sequence[str]],
    scheme: Scheme = "BIO",
    strict: bool = False,
) -> Counts:
    """Return the entities per sentence and type. ``answered``, ``truth``: each sentence's tags."""
    found = [
        tuple(set(spans(tags, scheme, strict)) for tags in pair)
        for pair in zip(answered, truth, strict=True)
    ]
    types = tuple(sorted({span.type for pair in found for side in pair for span in side}))
    at = {kind: column for column, kind in enumerate(types)}
    table = np.zeros((3, len(found), len(types)))
    for row, (ours, theirs) in enumerate(found):
        for layer, side in enumerate((ours & theirs, ours, theirs)):
            for span in side:
                table[layer, row, at[span.type]] += 1
    return Counts(table[0], table[1], table[2], types)


def f1(found: Counts, kind: str | None = None) -> Score:
    """Return the F1 of all entities (micro), or of one type, as a function of sentence weights.

    It is 0 if a draw has no entities at all.
    """
    correct, predicted, true = _totals(found, kind)
    return ratio(2 * correct, predicted + true)


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


def precision(found: Counts, kind: str | None = None) -> Score:
    """Return the share of predicted entities that are right; 0 if none is predicted."""
    correct, predicted, _ = _totals(found, kind)
    return ratio(correct, predicted)


def recall(found: Counts, kind: str | None = None) -> Score:
    """Return the share of true entities that are found; 0 if there are none."""
    correct, _, true = _totals(found, kind)
    return ratio(correct, true)


def token_accuracy(right: np.ndarray, lengths: Sequence[int]) -> Score:
    """Return the share of words with the right tag as a function of sentence weights.

    ``right``: words of all sentences; ``lengths``: each sentence's number of words.
    """
    sentence = np.repeat(np.arange(len(lengths)), lengths)
    hits = np.bincount(sentence, np.asarray(right, dtype=float), len(lengths)).astype(float)
    return ratio(hits, np.asarray(lengths, dtype=float))


def formula(
    labels: Sequence[str],
    lengths: Sequence[int],
    score: Callable[[Counts], Score] = f1,
    scheme: Scheme = "BIO",
    strict: bool = False,
) -> formulas.Formula:
    """Return a score of outputs (words × labels) and the true label index of each word.

    ``lengths``: each sentence's number of words. A word answered NaN counts as ``O``.
    """

    def scored(outputs: Floats, truth: Labels) -> Score:
        answer = tagged(formulas.answers(outputs), labels, lengths)
        return score(counts(answer, tagged(truth, labels, lengths), scheme, strict))

    return scored


def tagged(indices: Labels, labels: Sequence[str], lengths: Sequence[int]) -> list[list[str]]:
    """Return each sentence's tags from the label indices of all words; ``O`` for an index of -1."""
    names = [*labels, OUTSIDE]  # -1 is the last
    ends = np.cumsum(lengths)
    return [
        [names[index] for index in indices[end - length : end]]
        for length, end in zip(lengths, ends, strict=True)
    ]


def _totals(found: Counts, kind: str | None) -> tuple[Floats, Floats, Floats]:
    chosen = [kind is None or kind == name for name in found.types]
    correct, predicted, true = (part[:, chosen].sum(axis=1) for part in found[:3])
    return correct, predicted, true


def _has_prefix(tag: str) -> bool:
    return len(tag) > 2 and tag[0] in "BIES" and tag[1] == "-"


def _conll(parts: list[tuple[str, str]]) -> list[Span]:
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


def _opened(parts: list[tuple[str, str]]) -> list[Span]:
    """Return the spans that ``B-`` opens and ``I-`` of the same type goes on."""
    found = []
    for start, (mark, kind) in enumerate(parts):
        if mark == "B":
            end = start + 1
            while parts[end] == ("I", kind):
                end += 1
            found.append(Span(start, end, kind))
    return found


def _whole(parts: list[tuple[str, str]]) -> list[Span]:
    """Return the spans that are one ``S-``, or run from ``B-`` over ``I-`` to ``E-``."""
    found = []
    for start, (mark, kind) in enumerate(parts):
        if mark == "S":
            found.append(Span(start, start + 1, kind))
        elif mark == "B":
            end = start + 1
            while parts[end] == ("I", kind):
                end += 1
            if parts[end] == ("E", kind):
                found.append(Span(start, end + 1, kind))
    return found
