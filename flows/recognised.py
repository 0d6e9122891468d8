"""Recognise the task of a file by its columns: what they hold, and for pairs how they are named."""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flows.columns import LABELS, Columns

TEXT, TOKENS = "text-classification", "token-classification"
MULTI, SCORES, EMBEDDINGS = "multi-label-classification", "regression", "sentence-embeddings"
PAIRS = (
    *(("query", "passage"), ("query", "document"), ("question", "answer")),
    *(("sentence1", "sentence2"), ("text1", "text2"), ("premise", "hypothesis")),
)
FOUND = (("query", "positive"), ("anchor", "positive"), ("question", "positive"))
"""A text and what a search for it should find."""
TAG = re.compile(r"O|[BIES]-\S+")
RANKS = ("relevance", "score")
"""Labels that rank the rows of a query, also if they are whole numbers."""


@dataclass(frozen=True)
class Recognised:
    """The task, and the columns that a recipe names for it; ``label`` is empty without labels."""

    task: str
    text: tuple[str, ...]
    label: tuple[str, ...] = ()
    group: str | None = None


def recognise(
    table: Columns, text: tuple[str, ...] = (), label: tuple[str, ...] | None = None
) -> Recognised | None:
    """Return the task and its columns, ``text`` and ``label`` as given, if they were.

    ``label`` is () if the rows are to have none. None if the file has no column of texts.
    """
    every = (_tokens, _search, _named, _many, _scores, _classes)
    for find in (_search, _classes) if label == () else every:
        found = find(table, text, label)
        if found is not None:
            return found
    return None


def tags_as_text(values: Sequence[Any]) -> bool:
    """Return whether a column holds the tags of words, such as ``B-City O``, in one text a row."""
    present = _present(values)
    if not all(isinstance(value, str) for value in present):
        return False
    found = [_listed(value) for value in present]
    rows = [row if isinstance(row, list) else str(row).split() for row in found]
    tags = {str(tag) for row in rows for tag in row}
    return (
        any(len(row) > 1 for row in rows)
        and tags > {"O"}
        and all(TAG.fullmatch(tag) for tag in tags)
    )


def _tokens(
    table: Columns, text: tuple[str, ...], label: tuple[str, ...] | None
) -> Recognised | None:
    """Return a list of words beside a list of as many tags, or a text beside spans of it."""
    lists = [name for name, values in table.values.items() if _all(values, _words)]
    for words in text or lists:
        for tags in label or lists:
            if words != tags and words in lists and tags in lists and _alike(table, words, tags):
                return Recognised(TOKENS, (words,), (tags,))
    for spans in label or table.names:
        if _all(table.values.get(spans, []), _spans) and (of := text or _text(table)):
            return Recognised(TOKENS, of[:1], (spans,))
    return None


def _search(
    table: Columns, text: tuple[str, ...], label: tuple[str, ...] | None
) -> Recognised | None:
    pair = next((pair for pair in FOUND if set(pair) <= set(table.names)), None)
    if label or pair is None or (text and text != pair):
        return None
    return Recognised(EMBEDDINGS, pair)


def _named(
    table: Columns, text: tuple[str, ...], label: tuple[str, ...] | None
) -> Recognised | None:
    """Return what the values of a column with the name of a label tell, whatever is beside it.

    Files have further columns: how sure an annotator was, a vote, a flag. They would be taken for
    the target if all columns were looked at alike.
    """
    of = text or _pair(table) or _text(table)
    for name in LABELS if label is None else ():
        values = table.values.get(name, [])
        if name in of or len(set(map(str, _present(values)))) < 2:
            continue
        ways = (_many, _scores, _classes) if _class_like(values) else (_many, _scores)
        for find in ways:
            if found := find(table, text, (name,)):
                return found
    return None


def _many(
    table: Columns, text: tuple[str, ...], label: tuple[str, ...] | None
) -> Recognised | None:
    """Return a column of lists of labels, or several columns of 0 and 1."""
    of = text or _text(table)
    lists = [n for n in label or table.names if _all(table.values.get(n, []), _words)]
    if of and len(lists) == 1 and lists[0] not in of:
        return Recognised(MULTI, of, (lists[0],))
    flags = [n for n in label or table.names if _all(table.values.get(n, []), _flag)]
    if of and len(flags) > 1:
        return Recognised(MULTI, of, tuple(flags))
    return None


def _scores(
    table: Columns, text: tuple[str, ...], label: tuple[str, ...] | None
) -> Recognised | None:
    """Return a column of numbers that are not all whole, or that rank the texts of a query."""
    of = text or _pair(table) or _text(table)
    numbers = [name for name in label or table.names if _numeric(table.values.get(name, []))]
    numbers.sort(key=lambda name: name not in (*LABELS, *RANKS))
    if not of or not numbers:
        return None
    firsts = table.values[of[0]] if of[0] in table.names else []
    repeated = len(of) == 2 and len(set(firsts)) <= len(firsts) / 2
    broken = [name for name in numbers if not _whole(table.values[name])]
    ranking = [name for name in numbers if repeated and name in RANKS]
    if not broken and not ranking:
        return None
    return Recognised(SCORES, of, ((ranking or broken)[0],), of[0] if repeated else None)


def _classes(
    table: Columns, text: tuple[str, ...], label: tuple[str, ...] | None
) -> Recognised | None:
    """Return a column of classes, or no labels."""
    of = text or _pair(table) or _text(table)
    if not of:
        return None
    if label is None:
        rest = Columns({n: v for n, v in table.values.items() if n not in of[1:]})
        guess = rest.label(of[0])
        label = (guess,) if guess else ()
    return Recognised(TEXT, of, label)


def _text(table: Columns) -> tuple[str, ...]:
    found = table.text()
    return (found,) if found else ()


def _pair(table: Columns) -> tuple[str, ...]:
    return next((pair for pair in PAIRS if set(pair) <= set(table.names)), ())


def _present(values: Sequence[Any]) -> list[Any]:
    return [value for value in values if value not in (None, "")]


def _all(values: Sequence[Any], holds: Any) -> bool:
    present = _present(values)
    return bool(present) and all(holds(value) for value in present)


def _words(value: Any) -> bool:
    found = _listed(value)
    return isinstance(found, list) and all(isinstance(each, str) for each in found)


def _listed(value: Any) -> Any:
    """Return a value, or the list that a text spells: a CSV file has no lists."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            return ast.literal_eval(value.strip())
    return value


def _spans(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, dict) and {"start", "end"} <= set(each) for each in value
    )


def _class_like(values: Sequence[Any]) -> bool:
    """Return whether values are names or numbers of which some return."""
    present = _present(values)
    plain = all(isinstance(value, (str, int, float)) for value in present)
    return plain and len(set(map(str, present))) < len(present)


def _flag(value: Any) -> bool:
    return str(value) in ("0", "1", "0.0", "1.0", "True", "False")


def _alike(table: Columns, words: str, tags: str) -> bool:
    pairs = zip(table.values[words], table.values[tags], strict=True)
    return all(
        first is None or second is None or len(_listed(first)) == len(_listed(second))
        for first, second in pairs
    )


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _numeric(values: Sequence[Any]) -> bool:
    return _all(values, lambda value: _number(value) is not None)


def _whole(values: Sequence[Any]) -> bool:
    return all(float(value).is_integer() for value in _present(values))
