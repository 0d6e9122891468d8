"""What the datasets library gets wrong of a JSON file: altered values, and types of columns.

It makes a date of text that reads as one, if all of a column does, and a float of an integer beyond
64 bits, so that different ids become one. It takes the types of columns from the first 10 MB.
"""

from __future__ import annotations

import codecs
import io
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

EXACT = 2**53
"""Up to here, a float is the integer that was in the file."""
CHUNK = 10 << 20
"""Bytes that are in memory at once, as many as the datasets library reads."""
DATE = "Value('timestamp"
"""What is in the text of a feature with dates, alone or within lists."""


class Original:
    """A JSON file beside the table that was made of it. ``features``: the table's."""

    def __init__(self, path: Path, features: Any) -> None:
        self._features = features
        self._rows = _rows(path)
        self._passed = 0

    def restore(self, values: dict[str, list[Any]], columns: Sequence[str]) -> None:
        """Put the values of the file in the place of altered ones.

        ``values``: those of the table's next rows, by column. Raises ValueError if the file is
        neither an object in each line nor a list of objects or texts.
        """
        count = len(values[columns[0]])
        doubtful = [column for column in columns if self._may_differ(column, values[column])]
        if not doubtful:
            self._passed += count
            return
        rows = list(itertools.islice(self._rows, self._passed, self._passed + count))
        self._passed = 0
        if len(rows) != count or not all(isinstance(row, dict) for row in rows):
            raise ValueError("not an object in each line")
        for column in doubtful:
            values[column] = [row.get(column) for row in rows]

    def _may_differ(self, column: str, values: Sequence[Any]) -> bool:
        if DATE in repr(self._features[column]):
            return True
        return any(isinstance(value, float) and abs(value) >= EXACT for value in values)


def _rows(path: Path) -> Iterator[Any]:
    """Yield the rows of a file with an object in each line, or a list of objects or texts."""
    import fsspec

    with fsspec.open(str(path), "rb", compression="infer") as file:
        first = file.readline().removeprefix(codecs.BOM_UTF8)
        if first.lstrip().startswith(b"["):
            for row in json.loads(first + file.read()):
                yield {"text": row} if isinstance(row, str) else row
        else:
            for line in itertools.chain([first], file):
                if line.strip():
                    yield json.loads(line)


def features(path: Path, chunk: int = CHUNK) -> Any:
    """Return features that fit every row; a column of types that no other includes has type Json.

    The datasets library takes them from the first 10 MB, and refuses rows that differ later: with
    another key, a text in a column that was null, or 0.5 in one of integers.

    Raises ValueError if the lines are not objects in JSON.
    """
    import datasets
    import pyarrow as pa

    types: dict[str, Any] = {}
    for chunk_types in _types_by_chunk(path, chunk):
        for name, kind in chunk_types.items():
            types[name] = _wider(types.get(name, pa.null()), kind)
    mixed = {name: datasets.Json() for name, kind in types.items() if kind is None}
    schema = pa.schema({name: kind or pa.string() for name, kind in types.items()})
    uniform = datasets.Features.from_arrow_schema(schema)
    return datasets.Features(dict(uniform) | mixed)


def _types_by_chunk(path: Path, chunk: int) -> Iterator[dict[str, Any]]:
    """Yield the type of each column, chunk by chunk; None for a column of several."""
    import fsspec
    import pyarrow as pa
    import pyarrow.json

    with fsspec.open(str(path), "rb", compression="infer") as file:
        while lines := file.readlines(chunk):
            text = b"".join(lines)
            options = pyarrow.json.ReadOptions(block_size=len(text))
            try:
                schema = pyarrow.json.read_json(io.BytesIO(text), read_options=options).schema
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # it names only the first column
                yield _types_of_lines(lines)
            else:
                yield dict(zip(schema.names, schema.types, strict=True))


def _types_of_lines(lines: list[bytes]) -> dict[str, Any]:
    """Return the type of each column; None for a column of several."""
    import pyarrow as pa

    rows = [json.loads(line) for line in lines if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("not an object in each line")
    names = dict.fromkeys(itertools.chain.from_iterable(rows))
    types: dict[str, Any] = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            types[name] = pa.array(values).type
        except (ValueError, TypeError, OverflowError):
            types[name] = None
    return types


def _wider(one: Any, other: Any) -> Any:
    """Return the type that includes both, or None if there is none."""
    import pyarrow as pa

    if one is None or other is None:
        return None
    schemas = [pa.schema({"of": kind}) for kind in (one, other)]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field("of").type
    except pa.ArrowTypeError:
        return None
