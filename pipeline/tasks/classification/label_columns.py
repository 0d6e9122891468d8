"""The labels of a row, as files hold them: a list, text, or several columns of 0 and 1."""

from __future__ import annotations

import io
import itertools
import sys
import tokenize
from collections.abc import Sequence
from typing import Any

from rarefy.pipeline.data.table import as_text, is_missing
from rarefy.pipeline.terms import json_text
from rarefy.pipeline.terms.wording import repeated

FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
"""What may stand in a column of 0 and 1, in lower case."""


class NotLabelsError(ValueError):
    """What is wrong with a row's labels."""


def listed(value: Any) -> tuple[str, ...]:
    """Return the labels in a list, or in text: a JSON or Python list, or separated by ``;``."""
    if isinstance(value, str):
        value = _parsed(value.strip())
    if not isinstance(value, (list, tuple)):
        raise NotLabelsError(
            f"{value!r:.40} is not a list of labels; multi-label-classification needs one in each "
            "row, or several columns of 0 and 1 (data.label: [a, b])"
        )
    for each in value:
        if is_missing(each) or not isinstance(each, (str, int, float)):
            raise NotLabelsError(f"a label is {each!r:.40}; labels are names or integers")
    labels = tuple(sys.intern(as_text(each).strip()) for each in value)
    twice = repeated(labels)
    if twice is not None:
        raise NotLabelsError(f"the label {twice!r} is in the list twice")
    return labels


def _parsed(text: str) -> Any:
    """Return the list that a text holds."""
    if not text.startswith("["):
        return [part for part in text.split(";") if part.strip()]
    for parse in (json_text.parse, _literal):
        try:
            return parse(text)
        except NotLabelsError:
            raise
        except (ValueError, tokenize.TokenError):
            continue
    raise NotLabelsError(f"{text:.40} is neither a JSON nor a Python list")


def _literal(text: str) -> Any:
    """Return a Python list. Raises NotLabelsError for two texts without a comma between them.

    Python would join them; NumPy prints an array so, which pandas then writes into a CSV.
    """
    values = json_text.parse_literal(text)
    kinds = [each.type for each in tokenize.generate_tokens(io.StringIO(text).readline)]
    if (tokenize.STRING, tokenize.STRING) in itertools.pairwise(
        kind for kind in kinds if kind != tokenize.NL
    ):
        raise NotLabelsError(f"{text:.40} lacks a comma between two labels; write a list")
    return values


def flagged(values: tuple[Any, ...], columns: Sequence[str]) -> list[str] | None:
    """Return the names of the columns that are 1; None if a value is missing."""
    labels = []
    for column, value in zip(columns, values, strict=True):
        if is_missing(value):
            return None
        on = flag(value)
        if on is None:
            raise NotLabelsError(f"column {column!r} has {as_text(value)[:40]!r}, not 0 or 1")
        if on:
            labels.append(column)
    return labels


def flag(value: Any) -> bool | None:
    """Return what a value in a column of 0 and 1 means; None if it is another one."""
    return FLAGS.get(as_text(value).strip().lower())
