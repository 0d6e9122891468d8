"""The types of the columns of a JSONL file, over all of its rows."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHUNK = 10 << 20
"""Bytes that are in memory at once, as many as the datasets library reads."""


def features(path: Path) -> Any:
    """Return features that fit every row; a column of types that no other includes has type Json.

    The datasets library takes them from the first 10 MB, and refuses rows that differ later: with
    another key, a text in a column that was null, or 0.5 in one of integers.

    Raises ValueError if the lines are not objects in JSON.
    """
    import datasets
    import pyarrow as pa

    found: dict[str, Any] = {}
    for types in _chunks(path):
        for name, kind in types.items():
            found[name] = _wider(found.get(name, pa.null()), kind)
    mixed = {name: datasets.Json() for name, kind in found.items() if kind is None}
    known = pa.schema({name: kind or pa.string() for name, kind in found.items()})
    return datasets.Features(dict(datasets.Features.from_arrow_schema(known)) | mixed)


def _chunks(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the type of each column, chunk by chunk; None for a column of several."""
    import fsspec
    import pyarrow as pa
    import pyarrow.json

    with fsspec.open(str(path), "rb", compression="infer") as file:
        while lines := file.readlines(CHUNK):
            text = b"".join(lines)
            options = pyarrow.json.ReadOptions(block_size=len(text))
            try:
                schema = pyarrow.json.read_json(io.BytesIO(text), read_options=options).schema
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # it names only the first column
                yield _each(lines)
            else:
                yield dict(zip(schema.names, schema.types, strict=True))


def _each(lines: list[bytes]) -> dict[str, Any]:
    import pyarrow as pa

    rows = [json.loads(line) for line in lines if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("not an object in each line")
    types: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        try:
            types[name] = pa.array([row.get(name) for row in rows]).type
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
