"""Recognise the task of a file by its columns: what they hold, and for pairs how they are named."""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rarefy.flows.new_recipe.columns import LABELS, Columns, present

TEXT, TOKENS = "text-classification", "token-classification"
MULTI, SCORES, EMBEDDINGS = "multi-label-classification", "regression", "sentence-embeddings"
PAIRS = (
    *(("query", "passage"), ("query", "document"), ("question", "answer")),
    *(("sentence1", "sentence2"), ("text1", "text2"), ("premise", "hypothesis")),
    ("question1", "question2"),
)
FOUND = (("query", "positive"), ("anchor", "positive"), ("question", "positive"))
"""A text and what a search for it should find."""
WORDS = ("tokens", "words")
"""Columns whose words may have numbers for tags."""
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
    given = present(values)
    if not all(isinstance(value, str) for value in given):
        return False
    found = [_listed(value) for value in given]
    rows = [row if isinstance(row, list) else str(row).split() for row in found]
    return any(len(row) > 1 for row in rows) and _marked(rows)


def _marked(rows: Sequence[Sequence[Any]]) -> bool:
    """Return whether these are tags such as ``B-City`` and ``O``."""
    tags = {str(tag) for row in rows for tag in row}
    return tags > {"O"} and all(TAG.fullmatch(tag) for tag in tags)


def _tokens(
    table: Columns, text: tuple[str, ...], label: tuple[str, ...] | None
) -> Recognised | None:
    """Return a list of words beside a list of as many tags, or a text beside spans of it."""
    lists = [name for name, values in table.values.items() if _lists(values, _names)]
    numbers = [name for name, values in table.values.items() if _lists(values, _numbers)]
    words = table.called(WORDS)
    for of in text or sorted(lists, key=lambda name: name not in words):
        beside = lists + numbers if of in words else lists
        tags = [name for name in label or beside if name in beside and name != of]
        alike = [name for name in tags if of in lists and _alike(table, of, name)]
        if alike:
            marked = [n for n in alike if _marked(list(map(_listed, present(table.values[n]))))]
            alike.sort(key=lambda n: (not _of_entities(n), n in numbers, n not in marked))
            return Recognised(TOKENS, (of,), (alike[0],))
    for spans in label or table.names:
        if _lists(table.values.get(spans, []), _spans) and (found := text or _text(table)):
            return Recognised(TOKENS, found[:1], (spans,))
    return None


def _search(
    table: Columns, text: tuple[str, ...], label: tuple[str, ...] | None
) -> Recognised | None:
    pair = _first(table, FOUND)
    if label or not pair or (text and text != pair):
        return None
    return Recognised(EMBEDDINGS, pair)


def _named(
    table: Columns, text: tuple[str, ...], label: tuple[str, ...] | None
) -> Recognised | None:
    """Return what the values of a column with the name of a label tell, whatever is beside it.

    Files have further columns: how sure an annotator was, a vote, a flag. They would be taken for
    the target if all columns were looked at alike.
    """
    of = text or _texts(table)
    for name in table.called(LABELS) if label is None else ():
        values = table.values[name]
        if name in of or len(set(map(str, present(values)))) < 2:
            continue
        ways = (_many, _scores, _classes) if _class_like(values) else (_many, _scores)
        for find in ways:
            if found := find(table, text, (name,)):
                return found
    return None


def _many(
    table: Columns, text: tuple[str, ...], label: tuple[str, ...] | None
) -> Recognised | None:
    """Return a column of lists of labels, or several columns of 0 and 1.

    Lists of numbers, and names separated by ``;``, only if the column is known to be the label.
    """
    of = text or _texts(table)
    lists = [n for n in label or table.names if _lists(table.values.get(n, []), _names)]
    if label and not lists:
        values = {name: table.values.get(name, []) for name in label}
        lists = [n for n in label if _lists(values[n], _numbers) or _separated(values[n])]
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
    of = text or _texts(table)
    numbers = [name for name in label or table.names if _numeric(table.values.get(name, []))]
    likely = table.called((*LABELS, *RANKS))
    numbers.sort(key=lambda name: name not in likely)
    if not of or not numbers:
        return None
    firsts = table.values[of[0]] if of[0] in table.names else []
    repeated = len(of) == 2 and len(set(firsts)) <= len(firsts) / 2
    broken = [name for name in numbers if not _whole(table.values[name])]
    ranking = [name for name in numbers if repeated and name in table.called(RANKS)]
    if not broken and not ranking:
        return None
    return Recognised(SCORES, of, ((ranking or broken)[0],), of[0] if repeated else None)


def _classes(
    table: Columns, text: tuple[str, ...], label: tuple[str, ...] | None
) -> Recognised | None:
    """Return a column of classes, or no labels."""
    of = text or _texts(table)
    if not of:
        return None
    if label is None:
        rest = Columns({n: v for n, v in table.values.items() if n not in of[1:]})
        tagged = [n for n in rest.names if n != of[0] and tags_as_text(rest.values[n])]
        guess = rest.label(of[0]) or next(iter(tagged), None)  # which `rarefy init` then refuses
        label = (guess,) if guess else ()
    return Recognised(TEXT, of, label)


def _text(table: Columns) -> tuple[str, ...]:
    found = table.text()
    return (found,) if found else ()


def _texts(table: Columns) -> tuple[str, ...]:
    return _first(table, PAIRS) or _text(table)


def _first(table: Columns, pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return the columns with the names of the first of these pairs; () if there is none."""
    found = (tuple(table.called(pair)) for pair in pairs)
    return next((pair for pair in found if len(pair) == 2), ())


def _all(values: Sequence[Any], holds: Any) -> bool:
    given = present(values)
    return bool(given) and all(holds(value) for value in given)


def _lists(values: Sequence[Any], holds: Callable[[list[Any]], bool]) -> bool:
    """Return whether values are lists of a kind, or texts that spell them, and one has a member."""
    found = [_listed(value) for value in present(values)]
    return any(found) and all(isinstance(each, list) and holds(each) for each in found)


def _names(row: list[Any]) -> bool:
    return all(isinstance(each, str) for each in row)


def _numbers(row: list[Any]) -> bool:
    return all(isinstance(each, int) and not isinstance(each, bool) for each in row)


def _of_entities(name: str) -> bool:
    """Return whether a column is named for entities: ner_tags, not pos_tags."""
    return "ner" in re.split(r"[\W_]+", name.casefold())


def _separated(values: Sequence[Any]) -> bool:
    """Return whether texts are names separated by ``;``: some name is in several combinations."""
    given = present(values)
    if not all(isinstance(value, str) for value in given):
        return False
    rows = [tuple(filter(None, map(str.strip, value.split(";")))) for value in given]
    combined = [name for row in set(rows) for name in row]
    return len(set(combined)) < len(combined) and 2 * len(set(combined)) <= sum(map(len, rows))


def _listed(value: Any) -> Any:
    """Return a value, or the list that a text spells: a CSV file has no lists."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            return ast.literal_eval(value.strip())
    return value


def _spans(row: list[Any]) -> bool:
    return all(
        {"start", "end"} <= set(each)
        if isinstance(each, dict)
        else isinstance(each, list) and list(map(type, each)) == [int, int, str]
        for each in row
    )


def _class_like(values: Sequence[Any]) -> bool:
    """Return whether values are names or numbers of which some return."""
    given = present(values)
    plain = all(isinstance(value, (str, int, float)) for value in given)
    return plain and len(set(map(str, given))) < len(given)


def _flag(value: Any) -> bool:
    from rarefy.pipeline.tasks.classification import label_columns

    return label_columns.flag(value) is not None


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
    return all(float(value).is_integer() for value in present(values))
