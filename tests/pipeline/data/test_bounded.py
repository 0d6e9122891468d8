"""Compressed files are read up to a bound, and so are lines."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from rarefy.pipeline.data import table
from rarefy.pipeline.data.table import Source, opened
from rarefy.pipeline.terms import bounds
from rarefy.pipeline.terms.digests import file_sha256
from rarefy.pipeline.terms.errors import DataError

COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}


def read(path: Path) -> int:
    """Return how many rows a table has."""
    source = Source("train", path.name, path, file_sha256(path))
    with opened(source) as table:
        return sum(1 for _ in table.rows(table.names))


@pytest.mark.parametrize(
    ("ending", "compression"),
    [
        ("jsonl", "gz"),
        ("json", "gz"),
        ("csv", "gz"),
        ("tsv", "gz"),
        ("jsonl", "bz2"),
        ("csv", "xz"),
    ],
)
@pytest.mark.parametrize(
    "repeated", [b"a", b"[", b'{"text": "a"}\n'], ids=["line", "lists", "rows"]
)
def test_a_bomb_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    compression: str,
    ending: str,
    repeated: bytes,
) -> None:
    """With a tenth of the bounds, for a tenth of the bomb of ``test_a_real_bomb_is_refused``."""
    monkeypatch.setattr(bounds, "LINE", bounds.LINE // 10)
    monkeypatch.setattr(bounds, "EXPANDED", bounds.EXPANDED // 10)
    refuse(bomb(tmp_path / f"rows.{ending}.{compression}", repeated, 1_000_000))


@pytest.mark.parametrize("ending", ["jsonl.gz", "csv.xz", "jsonl.bz2", "csv.gz"])
def test_a_real_bomb_is_refused(tmp_path: Path, ending: str) -> None:
    refuse(bomb(tmp_path / f"rows.{ending}", b"a", 10_000_000), line="134 MB")


def bomb(path: Path, repeated: bytes, size: int) -> Path:
    """Write twenty times so many bytes, in a thousandth of them or less."""
    compression = COMPRESSED[path.suffix[1:]]
    path.write_bytes(compression(repeated * (size // len(repeated))) * 20)
    return path


def refuse(path: Path, line: str = r"13\.4 MB") -> None:
    """Check that a bomb ends in one line; ``line``: the bound of one, as it is shown."""
    with pytest.raises(
        DataError, match=rf"expands to more than|more than {line}|nested too"
    ) as error:
        read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("compression", COMPRESSED)
def test_honest_files_are_read(tmp_path: Path, compression: str) -> None:
    rows = [{"text": f"row {at}", "label": at % 2} for at in range(20_000)]
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path = tmp_path / f"rows.jsonl.{compression}"
    path.write_bytes(COMPRESSED[compression](text))
    assert read(path) == len(rows)
    path = tmp_path / f"rows.csv.{compression}"
    lines = "text,label\n" + "".join(f"row {at},{at % 2}\n" for at in range(20_000))
    path.write_bytes(COMPRESSED[compression](lines.encode()))
    assert read(path) == len(rows)


def test_equal_rows_in_small_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "the same", "label": "a"}\n' * 200_000))
    assert read(path) == 200_000


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as file:
        file.truncate(bounds.LINE + 100)
    with path.open("rb") as file, pytest.raises(DataError, match=r"a line has more than 134 MB"):
        list(table.bounded_lines(file, "rows.jsonl"))


@pytest.mark.parametrize(("ending", "separator"), [("csv", ","), ("tsv", "\t")])
def test_a_header_of_many_columns_is_refused(tmp_path: Path, ending: str, separator: str) -> None:
    path = tmp_path / f"rows.{ending}"
    path.write_text(separator.join(["text"] * (bounds.COLUMNS + 1)) + "\n")
    with pytest.raises(DataError, match=r"the header has 10,001 columns, of at most 10,000"):
        read(path)


def test_a_parquet_file_of_equal_rows_is_refused(tmp_path: Path) -> None:
    import numpy as np
    import pyarrow
    from pyarrow import parquet

    rows = 5_000_000
    column = pyarrow.DictionaryArray.from_arrays(np.zeros(rows, np.int32), ["fine"])
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"text": column, "label": column}), path)
    assert path.stat().st_size < 100_000
    with pytest.raises(DataError, match=r"5,000,000 rows in so few bytes"):
        read(path)


def test_parquet_cells_that_multiply_are_refused(tmp_path: Path) -> None:
    import numpy as np
    import pyarrow
    from pyarrow import parquet

    column = pyarrow.DictionaryArray.from_arrays(np.zeros(1000, np.int32), ["x" * 5_000_000])
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"text": column}), path, compression="zstd")
    assert path.stat().st_size < 1_000_000
    with pytest.raises(DataError, match=r"100 rows have more than 268 MB"):
        read(path)
