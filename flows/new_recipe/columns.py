"""The columns of a labelled file, and which of them look like the text and the label."""

from __future__ import annotations

import csv
import datetime
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rarefy.flows.new_recipe import evidence
from rarefy.pipeline.terms.digests import file_sha256
from rarefy.pipeline.terms.errors import DataError
from rarefy.pipeline.terms.wording import file_hint

ROWS = 1000
ENCODING = "utf-8-sig"
"""With a byte-order mark or without; Excel writes one."""
LABELS = (
    *("label", "labels", "class", "category", "target", "sentiment", "intent", "gold_label"),
    *("queue", "topic"),
)
IDS = frozenset({"id", "ids", "uuid", "idx", "index", "url", "email", "unnamed"})
TIMES = frozenset({"date", "time", "timestamp", "created", "updated", "modified"})
"""Words in the names of columns that are no labels."""
DATE = re.compile(r"(\d{4}-\d{1,2}-\d{1,2}|\d{1,2}[./-]\d{1,2}[./-]\d{2,4})([T ].*)?")
SENTENCE = 20
"""Characters that the values of a column of texts have on average, at least."""
CONLL = re.compile(r"O|[BIES]-\S+")
DOCUMENT = b"-DOCSTART-"  # what the first line of a file in CoNLL's form may begin with
"""What each line of such a file ends with."""
TEXTS = ("text", "sentence", "content", "review", "question", "document")


@dataclass(frozen=True)
class Columns:
    """The columns of a file, with the values of its first rows."""

    values: dict[str, list[Any]]

    @property
    def names(self) -> list[str]:
        return list(self.values)

    def called(self, names: Sequence[str]) -> list[str]:
        """Return the columns with one of these names, in capitals or not, in the names' order."""
        columns = {name.casefold(): name for name in self.names}
        columns |= {name: name for name in self.names}
        return [columns[name] for name in names if name in columns]

    def text(self) -> str | None:
        """Return the likely text column: by name, else the one with the longest strings, or None.

        A column without strings is never the text.
        """
        lengths = {}
        for name, values in self.values.items():
            strings = [value for value in values if isinstance(value, str)]
            if strings:
                lengths[name] = sum(map(len, strings)) / len(values)
        for name in self.called(TEXTS):
            if name in lengths:
                return name
        return max(lengths, key=lambda name: lengths[name], default=None)

    def texts(self) -> list[str]:
        """Return the columns that may be the text: most values are sentences, and are different."""
        names = []
        for name, values in self.values.items():
            strings = [value for value in values if isinstance(value, str)]
            length = sum(map(len, strings)) / max(1, len(values))
            if length >= SENTENCE and len(set(strings)) > len(values) / 2:
                names.append(name)
        return names

    def label(self, text: str | None) -> str | None:
        """Return the likely label column, or None.

        That is one with the name of a label, else the one that the words of the text predict best.
        If they predict none of several, there is no telling. Of few rows, where words cannot tell,
        it is the column with the fewest values.
        """
        for name in self.called(LABELS):
            if name != text and len(_distinct(self.values[name])) > 1:
                return name
        candidates = self.labels(text)
        if len(candidates) < 2:
            return next(iter(candidates), None)
        deviations = {}
        for name in candidates:
            known = evidence.deviations(self.values[text], self.values[name]) if text else None
            if known is not None:
                deviations[name] = known
        if not deviations:
            return min(candidates, key=lambda name: len(_distinct(self.values[name])))
        best = max(deviations, key=lambda name: deviations[name])
        return best if deviations[best] >= evidence.SURE else None

    def is_guess(self, text: str, label: str) -> bool:
        """Return whether neither the name of a column says that it is the label, nor the words."""
        if label in self.called(LABELS):
            return False
        deviations = evidence.deviations(self.values[text], self.values[label])
        return deviations is None or deviations < evidence.SURE

    def labels(self, text: str | None) -> list[str]:
        """Return the columns that may be the label: some values return, and they are no dates.

        A column whose values are all different, such as an id, is a label only by its name.
        """
        names = []
        texts = [text, *self.texts()]
        for name, values in self.values.items():
            if name in texts:
                continue
            cells, count = present(values), len(_distinct(values))
            if 1 < count < len(cells) and not _is_id_or_time(name, cells):
                names.append(name)
        return names


def _distinct(values: Sequence[Any]) -> set[str]:
    return set(map(str, present(values)))


def _is_id_or_time(name: str, cells: Sequence[Any]) -> bool:
    """Return whether a column is named for ids or times, or holds dates."""
    words = set(re.split(r"[\W_]+", name.casefold()))
    if words & (IDS | TIMES):
        return True
    return all(isinstance(cell, datetime.date) or DATE.fullmatch(str(cell)) for cell in cells)


def present(values: Sequence[Any]) -> list[Any]:
    """Return the values that are not missing."""
    return [value for value in values if value not in (None, "")]


def read(path: Path) -> Columns:
    """Read the columns of a JSONL, CSV, TSV or Parquet file.

    Raises DataError if that fails, or if it is CoNLL, whose first line would be taken for a header.
    """
    separated = path.suffix.lower() in (".csv", ".tsv")
    if path.exists() and not path.is_file():  # a pipe, or a device without end
        raise DataError(f"{path}: not a file")
    try:
        if separated and _begins_with(path, DOCUMENT):
            raise _conll_error(path)  # its columns '-X-' are not what is wrong with it
        table = Columns(_table(path))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file{file_hint(path)}") from None
    except DataError:
        raise
    except UnicodeDecodeError as error:
        from rarefy.pipeline.data import table as table_file

        raise table_file.not_unicode(str(path), error) from None
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise DataError(f"{path}: cannot read its columns: {lines[0]}") from None
    if separated and _is_conll(table):
        raise _conll_error(path)
    return table


def _begins_with(path: Path, text: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(text)) == text


def _conll_error(path: Path) -> DataError:
    return DataError(
        f"{path}: looks like CoNLL, with a word in each line; token-classification reads a JSON"
        ' line for each sentence: {"tokens": […], "tags": […]} (the documentation converts it)'
    )


def _is_conll(table: Columns) -> bool:
    """Return whether the lines of a table, its header too, are words with their tags.

    Their columns may also be parted by blanks, so that they are one here.
    """
    if not table.names:
        return False
    last = table.names[-1]
    lines = [last.split()]
    for value in present(table.values[last]):
        lines.append(str(value).split())
    if len(lines) == 1:
        return False
    if len(table.names) == 1 and any(len(line) == 1 for line in lines):
        return False
    return all(line and CONLL.fullmatch(line[-1]) for line in lines)


def _table(path: Path) -> dict[str, list[Any]]:
    """Return the columns of a file's first rows by name."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet(path)
    if suffix == ".csv":
        return _csv(path, ",")
    if suffix == ".tsv":
        return _csv(path, "\t")
    if suffix == ".jsonl":
        return _json_lines(path)
    return _as_a_run_reads(path)


def _parquet(path: Path) -> dict[str, list[Any]]:
    from pyarrow import parquet

    file = parquet.ParquetFile(path)
    batch = next(file.iter_batches(ROWS), None)
    if batch is None:
        batch = file.schema_arrow.empty_table()
    columns: dict[str, list[Any]] = batch.to_pydict()
    return columns


def _json_lines(path: Path) -> dict[str, list[Any]]:
    with path.open(encoding=ENCODING) as file:
        lines = filter(str.strip, file)
        rows = [json.loads(line) for line in itertools.islice(lines, ROWS)]
    names = dict.fromkeys(itertools.chain.from_iterable(rows))
    return {name: [row.get(name) for row in rows] for name in names}


def _csv(path: Path, separator: str) -> dict[str, list[Any]]:
    from rarefy.pipeline.data import table as table_file

    csv.field_size_limit(table_file.LONGEST)
    source = table_file.Source("train", str(path), path, "")
    unquoted = table_file.form(source) == "unquoted"
    with path.open(encoding=ENCODING, newline="") as file:
        reader = csv.DictReader(
            file, delimiter=separator, quoting=csv.QUOTE_NONE if unquoted else csv.QUOTE_MINIMAL
        )
        rows = list(itertools.islice(reader, ROWS))
        names = reader.fieldnames or []
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{path}: the header has the column {name!r} twice; rename one")
    return {name: [row[name] for row in rows] for name in names}


def _as_a_run_reads(path: Path) -> dict[str, list[Any]]:
    """Read the first rows of any other file, e.g. a compressed one: all of it is parsed."""
    from rarefy.pipeline.data import table as table_file

    source = table_file.Source("train", str(path), path, file_sha256(path))
    with table_file.opened(source) as table:
        names = table.names
        rows = list(itertools.islice(table.rows(names), ROWS))
    values = map(list, zip(*rows, strict=True))
    return dict(zip(names, values, strict=True))
