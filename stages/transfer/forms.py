"""What another system may predict for a row of each task, and the raw outputs that it stands for.

A probability becomes its logarithm, or its log-odds if labels may occur together; a hard label is a
probability of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rarefy.pipeline.data.table import as_number, as_text
from rarefy.pipeline.model.tokens import words
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.tasks.token_classification import entities, offsets, read_rows
from rarefy.pipeline.tasks.token_classification.entities import OUTSIDE, Span
from rarefy.pipeline.terms.errors import DataError

LABEL, PROBABILITIES, SPANS, VECTOR = "label", "probabilities", "spans", "vector"
LEAST = 1e-7
"""The least probability, whose logarithm is −16."""
TOLERANCE = 1e-2
"""By how much the sum of rounded probabilities may differ from one."""
SHOWN = 10
"""Labels that an error names."""


@dataclass(frozen=True)
class Form:
    """The columns that may hold predictions for a task, the first that a file has counts.

    ``parse`` returns the raw outputs of a value, given its column and the labels; of spans, which
    need the row's words, the value itself.
    """

    columns: tuple[str, ...]
    parse: Callable[[Any, str, Sequence[str]], Any]


def of_task(task: Task) -> Form | None:
    """Return the form of a task; None if no file can hold predictions for it."""
    if task.encoder.of_words:
        return Form((SPANS,), _spans)
    if task.head.body_only:
        return Form((VECTOR,), _vector)
    return _FORMS.get(task.objective.linear or "")


def _logarithms(value: Any, column: str, labels: Sequence[str]) -> list[float]:
    """Return the logarithm of each label's probability; the probabilities sum to one."""
    if column == LABEL:
        shares = {_known(as_text(value), labels): 1.0}
    else:
        shares = _probabilities(value, labels)
        total = sum(shares.values())
        if abs(total - 1) > TOLERANCE:
            raise DataError(f"the probabilities sum to {total:.4g}, not to 1")
    return [math.log(max(shares.get(label, 0.0), LEAST)) for label in labels]


def _log_odds(value: Any, column: str, labels: Sequence[str]) -> list[float]:
    """Return the log-odds of each label, of which a row may have several."""
    if column == PROBABILITIES:
        shares = _probabilities(value, labels)
    elif isinstance(value, list | tuple):
        shares = {_known(as_text(name), labels): 1.0 for name in value}
    else:
        raise DataError(f"label is {value!r:.40}, not a list of labels")
    odds = []
    for label in labels:
        share = shares.get(label, 0.0)
        share = max(share, LEAST)
        share = min(share, 1 - LEAST)
        ratio = share / (1 - share)
        odds.append(math.log(ratio))
    return odds


def _score(value: Any, column: str, labels: Sequence[str]) -> list[float]:
    return [_finite(value, column)]


def _vector(value: Any, column: str, labels: Sequence[str]) -> list[float]:
    is_list = isinstance(value, list | tuple)
    if not is_list or not value:
        raise DataError(f"{column} is {value!r:.40}, not a list of numbers")
    return [_finite(number, column) for number in value]


def _spans(value: Any, column: str, labels: Sequence[str]) -> list[Span]:
    """Return spans of characters. Raises DataError for a type that no tag has."""
    if not isinstance(value, list | tuple):
        raise DataError(f"{column} is {value!r:.40}, not a list of spans")
    scheme = entities.scheme_of(labels)
    types: list[str] = []
    for entity in entities.spans(labels, scheme):
        if entity.type not in types:
            types.append(entity.type)
    spans = read_rows.spans(value)
    for span in spans:
        _known(span.type, types)
    return spans


def tags(spans: Sequence[Span], sentence: Sequence[str], labels: Sequence[str]) -> list[int]:
    """Return the index of each word's tag.

    A tag of a later word that the labels lack, because no entity of the type has several words in
    train, becomes ``O``: such an entity is wrong either way.

    Args:
        spans: of characters in the words without anything between them.
        sentence: the words.
        labels: the tags of the task.

    Raises:
        DataError: the spans are not within the words or overlap, or a word is in none, and the
            task has no tag ``O``.
    """
    places: list[tuple[int, int]] = []
    start = 0
    for word in sentence:
        end = start + len(word)
        places.append((start, end))
        start = end
    scheme = entities.scheme_of(labels)
    of_words = offsets.words_of(spans, places, "".join(sentence))
    index = {label: place for place, label in enumerate(labels)}
    indices = []
    for name in entities.tags_of(of_words, len(sentence), scheme):
        place = index.get(name, index.get(OUTSIDE))
        if place is None:
            raise DataError("a word is in no span, but the task has no tag O")
        indices.append(place)
    return indices


def without_blanks(spans: Sequence[Span], text: str) -> tuple[Span, ...]:
    """Return spans of a text's characters as spans of its characters without blanks."""
    before = [0]
    count = 0
    for character in text:
        if not character.isspace():
            count += 1
        before.append(count)
    return tuple(Span(before[start], before[end], kind) for start, end, kind in spans)


def plain(text: Any) -> Any:
    """Return a list of words as a text, and anything else as it is."""
    if not isinstance(text, list):
        return text
    if all(isinstance(word, str) for word in text):
        return words.joined(text)
    return None


def _probabilities(value: Any, labels: Sequence[str]) -> dict[str, float]:
    """Return label -> probability; a label without one has none in the result."""
    is_list = isinstance(value, list)
    if is_list and all(isinstance(pair, tuple) for pair in value):
        value = dict(value)  # a map of Parquet
    if not isinstance(value, Mapping):
        raise DataError(f"probabilities are {value!r:.40}, not a mapping of labels to numbers")
    shares = {}
    for name, share in value.items():
        if share is None:  # a struct of Parquet has every key
            continue
        number = _finite(share, f"the probability of {name!r}")
        if not 0 <= number <= 1:
            raise DataError(f"the probability of {name!r} is {number:g}, not from 0 to 1")
        shares[str(name)] = number
    for name in shares.keys() - set(labels):
        _known(name, labels)
    return shares


def _finite(value: Any, what: str) -> float:
    number = None
    if not isinstance(value, str | bool):
        number = as_number(value)
    if number is None:
        raise DataError(f"{what} is {value!r:.40}, not a finite number")
    return number


def _known(name: str, labels: Sequence[str]) -> str:
    if name not in labels:
        shown = ", ".join(labels[:SHOWN])
        if len(labels) > SHOWN:
            shown += ", …"
        raise DataError(f"{name!r:.60} is not one of the labels {shown}")
    return name


_FORMS = {
    "classes": Form((PROBABILITIES, LABEL), _logarithms),
    "flags": Form((PROBABILITIES, LABEL), _log_odds),
    "scores": Form((LABEL,), _score),
}
"""By what a linear model of the task would predict."""
