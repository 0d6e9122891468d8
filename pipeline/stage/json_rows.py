"""The values of a JSON file's rows where the datasets library alters them.

It makes a date of text that reads as one, if all of a column does, and a float of an integer beyond
64 bits, so that different ids become one.
"""

from __future__ import annotations

import codecs
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

EXACT = 2**53
"""Up to here, a float is the integer that was in the file."""
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
    import fsspec

    with fsspec.open(str(path), "rb", compression="infer") as file:
        first = file.readline().removeprefix(codecs.BOM_UTF8)
        if first.lstrip().startswith(b"["):
            rows = json.loads(first + file.read())
            yield from ({"text": row} if isinstance(row, str) else row for row in rows)
        else:
            lines = itertools.chain([first], file)
            yield from (json.loads(line) for line in lines if line.strip())
