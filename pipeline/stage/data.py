"""Labelled text: read with the datasets library, checked, and identified by a digest."""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.model import sources
from pipeline.stage import table_file
from pipeline.stage.table_file import Source, Table
from pipeline.stage.texts import Texts
from pipeline.store.artifact import DataRecord
from pipeline.terms.digests import file_sha256, value_sha256
from pipeline.terms.errors import DataError
from pipeline.terms.vocabulary import Data
from pipeline.terms.wording import plural

_INTEGER = re.compile(r"-?[0-9]+")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
NO_VALUE = "(none)"
"""The slice of rows without a value in the slice's column."""


@dataclass(frozen=True)
class Split:
    """Rows of text. ``pairs`` is None for single sentences, ``labels`` is None if unlabelled.

    ``columns`` maps each slice column of the eval split to its value in every row. The texts of
    eval are lists; those of the other splits are on disk (``Texts``).
    """

    name: str
    reference: str
    sha256: str
    texts: Sequence[str]
    pairs: Sequence[str] | None
    labels: list[int] | None
    columns: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts)

    def record(self) -> DataRecord:
        return DataRecord(name=self.reference, split=self.name, rows=len(self), sha256=self.sha256)


@dataclass(frozen=True)
class Summary:
    """Facts about the recipe's data, saved under its digest so that it need not be read again.

    ``warnings`` are sentences for the user, e.g. how many rows were left out and why.
    """

    labels: list[str]
    rows: dict[str, int]
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def locate(data: Data, base: Path) -> dict[str, Source]:
    """Find the file of every split and hash its bytes. Raises DataError if one is missing."""
    found = {}
    for name, reference in data.references.items():
        path = sources.data_file(reference, base, f"data.{name}")
        found[name] = Source(name, reference, path, file_sha256(path))
    return found


def read_text(data: Data, reference: str, base: Path) -> Split:
    """Read only the text columns of a file, labelled or not. Raises DataError like ``load``."""
    path = sources.data_file(reference, base, "data")
    source = Source("unlabelled", reference, path, file_sha256(path))
    raw = _rows(data, source, [], list)
    return Split(source.name, reference, source.sha256, raw.texts, raw.pairs, None)


def digest(data: Data, splits: dict[str, Source]) -> str:
    """Return one digest over the bytes of all splits and the recipe's settings for reading them."""
    reading = data.model_dump(include={"text", "label", "max_length", "slices"}, mode="json")
    value = {"reading": reading, "splits": {name: s.sha256 for name, s in splits.items()}}
    return value_sha256(value)


def load(
    data: Data,
    located: dict[str, Source],
    order: list[str] | None = None,
    folder: Path | None = None,
) -> tuple[dict[str, Split], Summary]:
    """Read all splits; ``order`` is the label order of an existing model, if there is one.

    ``folder`` is where the texts are kept that are not held in memory; see ``Texts``.

    Raises DataError if a column is missing or unsuitable, a split is empty, train has fewer than
    two classes, eval has a label that train lacks, or a file changed since it was located.
    """
    warnings: list[str] = []
    raw = {
        name: _rows(data, source, warnings, list if name == "eval" else partial(Texts, folder))
        for name, source in located.items()
    }
    names = order or _label_names(raw["train"].labels or [], located["train"])
    index = {label: position for position, label in enumerate(names)}
    splits, counts = {}, {}
    for name, rows in raw.items():
        labels = None
        if rows.labels is not None:
            unseen = sorted(set(rows.labels) - set(index))
            if unseen:
                shown = ", ".join(map(repr, unseen[:3]))
                raise DataError(
                    f"{located[name].reference}: {name} has the label {shown}, which does not "
                    "occur in train"
                )
            labels = [index[label] for label in rows.labels]
            counted = Counter(rows.labels)
            counts[name] = {label: counted[label] for label in names}
            absent = [label for label in names if not counted[label]]
            if absent:
                warnings.append(f"{name}: no row has the label {', '.join(map(repr, absent[:3]))}")
        source = located[name]
        splits[name] = Split(
            name, source.reference, source.sha256, rows.texts, rows.pairs, labels, rows.columns
        )
    _warn_overlap(splits, warnings)
    summary = Summary(names, {name: len(s) for name, s in splits.items()}, counts, warnings)
    return splits, summary


@dataclass
class _Raw:
    texts: Sequence[str]
    pairs: Sequence[str] | None
    labels: list[str] | None
    columns: dict[str, list[str]]


def _rows(data: Data, source: Source, warnings: list[str], store: Callable[[], Any]) -> _Raw:
    """Read a split's usable rows; ``store`` makes what holds a text column: a list, ``Texts``."""
    slices = list(data.slices) if source.name == "eval" else []
    columns = [*data.text_columns, *slices]
    if source.name != "unlabelled":
        columns.append(data.label)
    texts = [store() for _ in data.text_columns]
    others: list[list[str]] = [[] for _ in columns[len(texts) :]]
    known: dict[str, str] = {}
    empty = unlabelled = 0
    with table_file.opened(source) as table:
        missing = [column for column in columns if column not in table.names]
        if missing:
            found = ", ".join(table.names) or "none"
            raise DataError(f"{source.reference}: no column {missing[0]!r}; the file has {found}")
        if source.name != "unlabelled":
            _check_labels(_once(table, data.label), data.label, source)
        for row in table.rows(columns):
            if any(not isinstance(text, str) or not text.strip() for text in row[: len(texts)]):
                empty += 1
            elif source.name != "unlabelled" and _missing(row[-1]):
                unlabelled += 1
            else:
                for column, text in zip(texts, row, strict=False):
                    column.append(text)
                for values, value in zip(others, row[len(texts) :], strict=True):
                    text = NO_VALUE if _missing(value) else _text(value)
                    values.append(known.setdefault(text, text))
    if empty:
        warnings.append(f"{source.name}: {plural(empty, 'row')} without text left out")
    if unlabelled:
        warnings.append(f"{source.name}: {plural(unlabelled, 'row')} without a label left out")
    if not len(texts[0]):
        raise DataError(f"{source.reference}: the {source.name} split has no usable rows")
    return _Raw(
        texts[0],
        texts[1] if len(texts) == 2 else None,
        others[-1] if source.name != "unlabelled" else None,
        dict(zip(slices, others, strict=False)),
    )


def _once(table: Table, column: str) -> Iterator[Any]:
    """Yield a column's values, each text once."""
    seen = set()
    for (value,) in table.rows([column]):
        if not isinstance(value, str):
            yield value
        elif value not in seen:
            seen.add(value)
            yield value


def _missing(value: Any) -> bool:
    return (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or (isinstance(value, str) and not value.strip())
    )


def _check_labels(values: Iterable[Any], column: str, source: Source) -> None:
    """Raise DataError if a column holds scores or sets of labels instead of one class per row.

    A CSV file has no types, so its text is interpreted: the column is rejected if any value is a
    list, or if all values are numbers and one is not an integer. In other formats, any text is a
    class name.
    """
    present = [value for value in values if not _missing(value)]
    if source.ending in (".csv", ".tsv"):
        parsed = [_literal(value) for value in present]
        if any(isinstance(value, str) for value in parsed):
            parsed = [value if isinstance(value, list) else "a name" for value in parsed]
    else:
        parsed = present
    for value, shown in zip(parsed, present, strict=True):
        if isinstance(value, (str, int)) or (isinstance(value, float) and value.is_integer()):
            continue
        kinds = {float: "numbers that are not integers", list: "lists", dict: "mappings"}
        what = kinds.get(type(value), f"values of type {type(value).__name__}")
        example = shown if isinstance(shown, str) else repr(shown)
        raise DataError(
            f"{source.reference}: column {column!r} contains {what} ({example[:40]}); "
            "classification needs one class per row, a name or an integer; regression and several "
            "labels per row are not supported"
        )


def _literal(text: str) -> Any:
    """Return the number or list that a CSV field represents, else the text itself."""
    if text.lstrip()[:1] == "[":
        try:
            return list(ast.literal_eval(text.strip()))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return text
    return float(text) if _NUMBER.fullmatch(text.strip()) else text


def _text(value: Any) -> str:
    """Return a label as text. Missing values turn integers into floats, so 1.0 is the label 1."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _label_names(labels: Iterable[str], source: Source) -> list[str]:
    """Return the labels in a stable order: integers by value, names alphabetically."""
    names = sorted(Counter(labels))
    if all(_INTEGER.fullmatch(name) for name in names):
        names.sort(key=int)
    if len(names) < 2:
        raise DataError(
            f"{source.reference}: train has only the class {names[0]!r}; at least two are needed"
        )
    if len(names) > 1000:
        raise DataError(
            f"{source.reference}: train has {len(names)} different labels; check 'data.label'"
        )
    return names


def _warn_overlap(splits: dict[str, Split], warnings: list[str]) -> None:
    evaluated = list(_pairs(splits["eval"]))
    asked = set(evaluated)
    seen = {pair for pair in _pairs(splits["train"]) if pair in asked}
    both = sum(pair in seen for pair in evaluated)
    if both:
        verb = "is" if both == 1 else "are"
        warnings.append(
            f"eval: {plural(both, 'row')} {verb} also in train, so accuracy is overestimated"
        )


def _pairs(split: Split) -> Iterator[tuple[str, str]]:
    if split.pairs is None:
        return ((text, "") for text in split.texts)
    return zip(split.texts, split.pairs, strict=True)
