"""Recognise the task of a file by its columns: what they hold, and for pairs how they are named."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rarefy.flows.new_recipe.columns import LABELS, Columns, present
from rarefy.pipeline.terms import json_text

TEXT, TOKENS = "text-classification", "token-classification"
MULTI, SCORES, EMBEDDINGS = "multi-label-classification", "regression", "sentence-embeddings"
PAIRS = (
    *(("query", "passage"), ("query", "document"), ("question", "answer")),
    *(("sentence1", "sentence2"), ("text1", "text2"), ("premise", "hypothesis")),
    ("question1", "question2"),
)
SEARCH_PAIRS = (("query", "positive"), ("anchor", "positive"), ("question", "positive"))
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
    """Return the task of a table and its columns, or None if it has no column of texts.

    Args:
        table: The columns with the values of their first rows.
        text: The text columns that the user has named; () if none.
        label: The label columns that the user has named; () if the rows are to have none, None if
            the user has not said.
    """
    recognisers = [_tokens, _search, _named_label, _many, _scores, _classes]
    if label == ():
        recognisers = [_search, _classes]
    for recognise_task in recognisers:
        recognised = recognise_task(table, text, label)
        if recognised is not None:
            return recognised
    return None


def tags_as_text(values: Sequence[Any]) -> bool:
    """Return whether a column holds the tags of words, such as ``B-City O``, in one text a row."""
    rows = []
    for value in present(values):
        if not isinstance(value, str):
            return False
        row = _parse_list(value)
        if not isinstance(row, list):
            row = str(row).split()
        rows.append(row)
    if all(len(row) <= 1 for row in rows):
        return False
    return _are_entity_tags(rows)


def _are_entity_tags(rows: Sequence[Sequence[Any]]) -> bool:
    """Return whether these are tags such as ``B-City`` and ``O``."""
    tags = set(map(str, itertools.chain.from_iterable(rows)))
    return tags > {"O"} and all(TAG.fullmatch(tag) for tag in tags)


def _tokens(
    table: Columns, text: tuple[str, ...], label: tuple[str, ...] | None
) -> Recognised | None:
    """Return a list of words beside a list of as many tags, or a text beside spans of it."""
    lists = [name for name in table.names if _are_lists(table, name, _strings)]
    numbers = [name for name in table.names if _are_lists(table, name, _integers)]
    words = table.called(WORDS)
    for column in text or sorted(lists, key=lambda name: name not in words):
        if column not in lists:
            continue
        possible = lists
        if column in words:
            possible = lists + numbers
        tags = _best_tags(table, column, possible, label or possible)
        if tags is not None:
            return Recognised(TOKENS, (column,), (tags,))
    text_column = text or _text(table)
    if not text_column:
        return None
    for column in label or table.names:
        if _are_lists(table, column, _spans):
            return Recognised(TOKENS, text_column[:1], (column,))
    return None


def _best_tags(
    table: Columns, words: str, possible: Sequence[str], candidates: Sequence[str]
) -> str | None:
    """Return the column that most likely tags a column of words, or None.

    Columns named for entities come first, then those with texts, then those with entity tags.

    Args:
        table: The columns.
        words: The name of the column of words.
        possible: The columns whose values can be tags.
        candidates: The columns to choose from.
    """
    ranks = {}
    for name in candidates:
        if name not in possible or name == words or not _same_lengths(table, words, name):
            continue
        rows = list(map(_parse_list, present(table.values[name])))
        numeric = all(map(_integers, rows)) and any(rows)
        ranks[name] = (not _named_for_entities(name), numeric, not _are_entity_tags(rows))
    return min(ranks, key=lambda name: ranks[name], default=None)


def _search(
    table: Columns, text: tuple[str, ...], label: tuple[str, ...] | None
) -> Recognised | None:
    """Return a text and what a search for it should find."""
    pair = _first_pair(table, SEARCH_PAIRS)
    if label or not pair:
        return None
    if text and text != pair:
        return None
    return Recognised(EMBEDDINGS, pair)


def _named_label(
    table: Columns, text: tuple[str, ...], label: tuple[str, ...] | None
) -> Recognised | None:
    """Return what the values of a column with the name of a label tell, whatever is beside it.

    Files have further columns: how sure an annotator was, a vote, a flag. They would be taken for
    the target if all columns were looked at alike.
    """
    if label is not None:
        return None
    text_columns = text or _texts(table)
    for name in table.called(LABELS):
        values = table.values[name]
        distinct = set(map(str, present(values)))
        if name in text_columns or len(distinct) < 2:
            continue
        recognised = _many(table, text, (name,)) or _scores(table, text, (name,))
        if recognised is None and _class_like(values):
            recognised = _classes(table, text, (name,))
        if recognised is not None:
            return recognised
    return None


def _many(
    table: Columns, text: tuple[str, ...], label: tuple[str, ...] | None
) -> Recognised | None:
    """Return a column of lists of labels, or several columns of 0 and 1.

    Lists of numbers, and names separated by ``;``, only if the column is known to be the label.
    """
    text_columns = text or _texts(table)
    if not text_columns:
        return None
    columns = label or table.names
    lists = [name for name in columns if _are_lists(table, name, _strings)]
    if label and not lists:
        lists = [name for name in label if _encodes_several(table, name)]
    if len(lists) == 1 and lists[0] not in text_columns:
        return Recognised(MULTI, text_columns, (lists[0],))
    flags = [name for name in columns if _all_present(table.values.get(name, []), _is_flag)]
    if len(flags) > 1:
        return Recognised(MULTI, text_columns, tuple(flags))
    return None


def _encodes_several(table: Columns, name: str) -> bool:
    """Return whether a label column holds lists of numbers or names separated by ``;``."""
    return _are_lists(table, name, _integers) or _separated(table.values.get(name, []))


def _scores(
    table: Columns, text: tuple[str, ...], label: tuple[str, ...] | None
) -> Recognised | None:
    """Return a column of numbers that are not all whole, or that rank the texts of a query."""
    text_columns = text or _texts(table)
    if not text_columns:
        return None
    numbers = [name for name in label or table.names if _numeric(table.values.get(name, []))]
    if not numbers:
        return None
    likely = table.called((*LABELS, *RANKS))
    numbers.sort(key=lambda name: name not in likely)
    query = text_columns[0]
    queries = table.values.get(query, [])
    repeated = len(text_columns) == 2 and len(set(queries)) <= len(queries) / 2
    if repeated:
        ranks = table.called(RANKS)
        for name in numbers:
            if name in ranks:
                return Recognised(SCORES, text_columns, (name,), query)
    for name in numbers:
        if not _whole(table.values[name]):
            group = query if repeated else None
            return Recognised(SCORES, text_columns, (name,), group)
    return None


def _classes(
    table: Columns, text: tuple[str, ...], label: tuple[str, ...] | None
) -> Recognised | None:
    """Return a column of classes, or no labels."""
    text_columns = text or _texts(table)
    if not text_columns:
        return None
    if label is None:
        label = _likely_classes(table, text_columns)
    return Recognised(TEXT, text_columns, label)


def _likely_classes(table: Columns, text_columns: tuple[str, ...]) -> tuple[str, ...]:
    """Return the column that is most likely the label, if there is one.

    It may hold tags as text, which `rarefy init` then refuses.
    """
    first, *others = text_columns
    rest = {name: values for name, values in table.values.items() if name not in others}
    column = Columns(rest).label(first)
    if column is not None:
        return (column,)
    for name, values in rest.items():
        if name != first and tags_as_text(values):
            return (name,)
    return ()


def _text(table: Columns) -> tuple[str, ...]:
    column = table.text()
    return (column,) if column else ()


def _texts(table: Columns) -> tuple[str, ...]:
    return _first_pair(table, PAIRS) or _text(table)


def _first_pair(table: Columns, pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return the columns with the names of the first of these pairs; () if there is none."""
    for names in pairs:
        columns = tuple(table.called(names))
        if len(columns) == 2:
            return columns
    return ()


def _all_present(values: Sequence[Any], holds: Callable[[Any], bool]) -> bool:
    """Return whether a condition holds for all values that are not missing, and there is one."""
    cells = present(values)
    return bool(cells) and all(map(holds, cells))


def _are_lists(table: Columns, name: str, holds: Callable[[list[Any]], bool]) -> bool:
    """Return whether a column has lists of a kind, or texts that spell them, and one is not empty.

    A column that the table does not have has none.
    """
    rows = [_parse_list(value) for value in present(table.values.get(name, []))]
    return any(rows) and all(isinstance(row, list) and holds(row) for row in rows)


def _strings(row: list[Any]) -> bool:
    return all(isinstance(value, str) for value in row)


def _integers(row: list[Any]) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) for value in row)


def _named_for_entities(name: str) -> bool:
    """Return whether a column is named for entities: ner_tags, not pos_tags."""
    return "ner" in re.split(r"[\W_]+", name.casefold())


def _separated(values: Sequence[Any]) -> bool:
    """Return whether texts are names separated by ``;``: some name is in several combinations."""
    rows = []
    for value in present(values):
        if not isinstance(value, str):
            return False
        names = map(str.strip, value.split(";"))
        rows.append(tuple(filter(None, names)))
    combined = list(itertools.chain.from_iterable(set(rows)))
    distinct = len(set(combined))
    total = sum(map(len, rows))
    return distinct < len(combined) and 2 * distinct <= total


def _parse_list(value: Any) -> Any:
    """Return a value, or the list that a text spells: a CSV file has no lists."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        with contextlib.suppress(ValueError):
            return json_text.parse_literal(value.strip())
    return value


def _spans(row: list[Any]) -> bool:
    return all(map(_is_span, row))


def _is_span(value: Any) -> bool:
    """Return whether a value is a span: with the keys start and end, or [start, end, label]."""
    if isinstance(value, dict):
        return {"start", "end"} <= set(value)
    return isinstance(value, list) and list(map(type, value)) == [int, int, str]


def _class_like(values: Sequence[Any]) -> bool:
    """Return whether values are names or numbers of which some return."""
    cells = present(values)
    if not all(isinstance(value, (str, int, float)) for value in cells):
        return False
    return len(set(map(str, cells))) < len(cells)


def _is_flag(value: Any) -> bool:
    from rarefy.pipeline.tasks.classification import label_columns

    return label_columns.flag(value) is not None


def _same_lengths(table: Columns, words: str, tags: str) -> bool:
    """Return whether two columns of lists have lists of the same length in each row."""
    for word_cell, tag_cell in zip(table.values[words], table.values[tags], strict=True):
        if word_cell is None or tag_cell is None:
            continue
        if len(_parse_list(word_cell)) != len(_parse_list(tag_cell)):
            return False
    return True


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _numeric(values: Sequence[Any]) -> bool:
    return _all_present(values, _is_number)


def _whole(values: Sequence[Any]) -> bool:
    return all(float(value).is_integer() for value in present(values))
