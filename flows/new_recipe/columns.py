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

from rarefy.pipeline.terms.digests import file_sha256
from rarefy.pipeline.terms.errors import DataError

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
        found = {name.casefold(): name for name in self.names} | {name: name for name in self.names}
        return [found[name] for name in names if name in found]

    def text(self) -> str | None:
        """Return the likely text column: by name, else the one with the longest strings, or None.

        A column without strings is never the text.
        """
        lengths = {
            name: sum(len(value) for value in values if isinstance(value, str)) / len(values)
            for name, values in self.values.items()
            if values and any(isinstance(value, str) for value in values)
        }
        named = [name for name in self.called(TEXTS) if name in lengths]
        return named[0] if named else max(lengths, key=lambda name: lengths[name], default=None)

    def label(self, text: str | None) -> str | None:
        """Return the likely label column: by name, else the one with the fewest values, or None.

        A column whose values are all different, such as an id, is a label only by its name.
        """
        found = {name: present(values) for name, values in self.values.items() if name != text}
        counts = {name: len(set(map(str, values))) for name, values in found.items()}
        named = [name for name in self.called(LABELS) if counts.get(name, 0) > 1]
        likely = [name for name in counts if 1 < counts[name] < len(found[name])]
        return named[0] if named else min(likely, key=lambda name: counts[name], default=None)


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
        from rarefy.pipeline.data import table as table_file

        raise table_file.not_unicode(str(path), error) from None
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: cannot read its columns: {reason}") from None
    if path.suffix.lower() in (".csv", ".tsv") and _is_conll(table):
        raise DataError(
            f"{path}: looks like CoNLL, with a word in each line; token-classification reads a JSON"
            ' line for each sentence: {"tokens": […], "tags": […]} (docs/tasks.md converts it)'
        )
    return table


def _is_conll(table: Columns) -> bool:
    """Return True if the lines of a table, its header too, are words with their tags.

    Their columns may also be parted by blanks, so that they are one here.
    """
    *before, last = table.names or [""]
    if table.names and table.names[0].startswith("-DOCSTART-"):
        return True
    lines = [str(line).split() for line in (last, *present(table.values.get(last, ())))]
    parted = before or all(len(line) > 1 for line in lines)
    tagged = all(line and CONLL.fullmatch(line[-1]) for line in lines)
    return bool(parted) and tagged and len(lines) > 1


def _table(path: Path) -> dict[str, list[Any]]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        from pyarrow import parquet

        file = parquet.ParquetFile(path)
        batch = next(file.iter_batches(ROWS), None)
        return dict(
            file.schema_arrow.empty_table().to_pydict() if batch is None else batch.to_pydict()
        )
    if suffix in (".csv", ".tsv"):
        return _csv(path, "\t" if suffix == ".tsv" else ",")
    if suffix != ".jsonl":
        return _as_a_run_reads(path)
    with path.open(encoding=ENCODING) as file:
        rows = [json.loads(line) for line in itertools.islice(filter(str.strip, file), ROWS)]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _csv(path: Path, separator: str) -> dict[str, list[Any]]:
    from rarefy.pipeline.data import table as table_file

    csv.field_size_limit(table_file.LONGEST)
    plain = table_file.form(table_file.Source("train", str(path), path, "")) == "unquoted"
    with path.open(encoding=ENCODING, newline="") as file:
        reader = csv.DictReader(
            file, delimiter=separator, quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL
        )
        rows = [row for _, row in zip(range(ROWS), reader, strict=False)]
    return {name: [row[name] for row in rows] for name in reader.fieldnames or []}


def _as_a_run_reads(path: Path) -> dict[str, list[Any]]:
    """Read the first rows of any other file, e.g. a compressed one: all of it is parsed."""
    from rarefy.pipeline.data import table as table_file

    source = table_file.Source("train", str(path), path, file_sha256(path))
    with table_file.opened(source) as table:
        names = table.names
        rows = list(itertools.islice(table.rows(names), ROWS))
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
