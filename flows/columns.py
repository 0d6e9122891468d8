"""The columns of a labelled file, and which of them look like the text and the label."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.terms.digests import file_sha256
from pipeline.terms.errors import DataError

ROWS = 1000
ENCODING = "utf-8-sig"
"""With a byte-order mark or without; Excel writes one."""
LABELS = ("label", "labels", "class", "category", "target", "sentiment", "intent", "gold_label")
CONLL = re.compile(r"O|[BIES]-\S+")
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

    def label(self, text: str | None) -> str | None:
        """Return the likely label column: by name, else the one with the fewest values, or None.

        A column whose values are all different, such as an id, is a label only by its name.
        """
        counts = {}
        candidates = []
        for name, values in self.values.items():
            if name == text:
                continue
            cells = present(values)
            counts[name] = len(set(map(str, cells)))
            if 1 < counts[name] < len(cells):
                candidates.append(name)
        for name in self.called(LABELS):
            if counts.get(name, 0) > 1:
                return name
        return min(candidates, key=lambda name: counts[name], default=None)


def present(values: Sequence[Any]) -> list[Any]:
    """Return the values that are not missing."""
    return [value for value in values if value not in (None, "")]


def read(path: Path) -> Columns:
    """Read the columns of a JSONL, CSV, TSV or Parquet file.

    Raises DataError if that fails, or if it is CoNLL, whose first line would be taken for a header.
    """
    try:
        table = Columns(_table(path))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except DataError:
        raise
    except UnicodeDecodeError as error:
        from pipeline.stage import table_file

        raise table_file.not_unicode(str(path), error) from None
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise DataError(f"{path}: cannot read its columns: {lines[0]}") from None
    if path.suffix.lower() in (".csv", ".tsv") and _is_conll(table):
        raise DataError(
            f"{path}: looks like CoNLL, with a word in each line; token-classification reads a JSON"
            ' line for each sentence: {"tokens": […], "tags": […]} (docs/tasks.md converts it)'
        )
    return table


def _is_conll(table: Columns) -> bool:
    """Return whether the lines of a table, its header too, are words with their tags.

    Their columns may also be parted by blanks, so that they are one here.
    """
    if not table.names:
        return False
    if table.names[0].startswith("-DOCSTART-"):
        return True
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
    from pipeline.stage import table_file

    csv.field_size_limit(table_file.LONGEST)
    source = table_file.Source("train", str(path), path, "")
    unquoted = table_file.form(source) == "unquoted"
    with path.open(encoding=ENCODING, newline="") as file:
        reader = csv.DictReader(
            file, delimiter=separator, quoting=csv.QUOTE_NONE if unquoted else csv.QUOTE_MINIMAL
        )
        rows = list(itertools.islice(reader, ROWS))
    names = reader.fieldnames or []
    return {name: [row[name] for row in rows] for name in names}


def _as_a_run_reads(path: Path) -> dict[str, list[Any]]:
    """Read the first rows of any other file, e.g. a compressed one: all of it is parsed."""
    from pipeline.stage import table_file

    source = table_file.Source("train", str(path), path, file_sha256(path))
    with table_file.opened(source) as table:
        names = table.names
        rows = list(itertools.islice(table.rows(names), ROWS))
    values = map(list, zip(*rows, strict=True))
    return dict(zip(names, values, strict=True))
