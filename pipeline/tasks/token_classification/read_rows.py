"""Rows of words with tags, read from lists of tokens and tags or from text with spans."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rarefy.pipeline.model.tokens import words
from rarefy.pipeline.tasks import bases
from rarefy.pipeline.tasks.token_classification import offsets
from rarefy.pipeline.tasks.token_classification.entities import OUTSIDE, Span, scheme_of, tags_of
from rarefy.pipeline.terms.errors import DataError
from rarefy.pipeline.terms.wording import plural

MARKS = "BIES"
"""The prefixes that are read, in the order of the labels of a type."""

_OTHER_MARKS = re.compile(r"([bi])[-_](.+)|(.+)[-_]([bi])", re.IGNORECASE)


class SpanTags(tuple[str, ...]):
    """The BIO tags of a row that was given as spans."""


def read(given: Any, target: Any) -> tuple[str, tuple[str, ...] | None]:
    """Return a row's joined text and its tags; None if ``target`` is None.

    Raises DataError, without the row's place, if the tags or spans do not fit the words.
    """
    if isinstance(given, str):
        return _of_spans(given, target)
    for at, token in enumerate(given, 1):
        if not isinstance(token, str):
            raise DataError(f"token {at} is {token!r}, not text")
        if not token or any(map(str.isspace, token)):
            raise DataError(f"token {at} ({token!r}) is empty or has a blank in it")
    if target is None:
        return words.joined(given), None
    for at, tag in enumerate(target, 1):
        if type(tag) is int:
            raise DataError(
                f"tag {at} is the number {tag}; write the tags' names, such as B-City: of a data "
                "set of Hugging Face, they are dataset.features['ner_tags'].feature.names"
            )
        if not isinstance(tag, str) or not tag or any(map(str.isspace, tag)):
            raise DataError(f"tag {at} is {tag!r}; a tag is a name without blanks, such as B-City")
    if len(given) != len(target):
        raise DataError(f"{plural(len(given), 'token')}, but {plural(len(target), 'tag')}")
    return words.joined(given), tuple(target)


def _of_spans(text: str, target: Any) -> tuple[str, tuple[str, ...] | None]:
    places = words.split(text, words.OWN)
    sentence = words.joined([text[start:end] for start, end in places])
    if target is None:
        return sentence, None
    entities = offsets.words_of(spans(target), places, text)
    return sentence, SpanTags(tags_of(entities, len(places)))


def spans(values: Iterable[Any]) -> list[Span]:
    """Return the spans of characters that a data file has. Raises DataError if one is none."""
    return [_span(value) for value in values]


def _span(value: Any) -> Span:
    if isinstance(value, Mapping) and {"start", "end", "label"} <= set(value):
        span = Span(value["start"], value["end"], value["label"])
    elif isinstance(value, list | tuple) and len(value) == 3:
        span = Span(*value)
    else:
        raise DataError(f"{value!r} is not a span; write {{start, end, label}} or a list of them")
    whole = all(isinstance(end, int) and not isinstance(end, bool) for end in span[:2])
    if not whole or not isinstance(span.type, str) or not span.type.strip():
        raise DataError(f"{value!r} is not a span: start and end are whole numbers, label a name")
    return span


def names(targets: Iterable[Sequence[str]]) -> list[str]:
    """Return the tags that occur: ``O`` first, then by type.

    For spans, each type has its ``I-`` too, whether or not train has one of several words.
    Raises DataError, without the split's name, if the tags cannot be read.
    """
    found: set[str] = set()
    for tags in targets:
        found.update(tags)
        if isinstance(tags, SpanTags):
            found.update(f"I-{tag[2:]}" for tag in tags if tag.startswith("B-"))
            found.add(OUTSIDE)
    if len(found) > bases.MOST_LABELS:
        raise DataError(f"train has {len(found)} different tags; check 'data.label'")
    marked = {tag for tag in found if tag[1:2] == "-" and tag[0] in MARKS and len(tag) > 2}
    plain = sorted(found - marked - {OUTSIDE, *MARKS})
    if marked and plain:
        raise DataError(
            f"the tag {plain[0]!r} has an unknown prefix next to {min(marked)!r}; "
            "BIO, BIOES and tags without prefixes are read"
        )
    if not marked:
        _check_bare(found)
    if len(found) < 2:
        raise DataError(f"train has only the tag {min(found)!r}; at least two are needed")
    if scheme_of(found) == "bare":
        return sorted(found, key=lambda tag: (tag != OUTSIDE, tag))
    return sorted(found, key=lambda tag: (tag != OUTSIDE, tag[2:], MARKS.find(tag[0])))


def _check_bare(found: set[str]) -> None:
    """Raise DataError if tags without prefixes have prefixes of another form, or a small ``o``.

    Each would be the name of an entity: a beginning with a wrong end would count as right. In a
    tag set of single letters, as Peking University's of parts of speech, ``o`` is one.
    """
    halves: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for tag in sorted(found):
        if parts := _OTHER_MARKS.fullmatch(tag):
            mark, before, behind, last = (part or "" for part in parts.groups())
            halves[before, behind][(mark or last).upper()] = tag
    for both in halves.values():
        if len(both) == 2:
            raise DataError(
                f"the tags {both['B']!r} and {both['I']!r} would be names of two entities; write "
                "the words of one as B-City and I-City"
            )
    if [tag for tag in found if len(tag) == 1 and tag != OUTSIDE] == ["o"]:
        raise DataError("the tag 'o' would be the name of an entity; write O for all other words")
