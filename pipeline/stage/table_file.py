"""A data file as a table, read batch by batch with the datasets library."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.terms.digests import file_sha256
from pipeline.terms.errors import DataError

FORMATS = {
    ".jsonl": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
CSV = {"keep_default_na": False, "na_values": ["", "nan", "NaN"]}
"""Without these options, a label or a text "None", "NA" or "null" would count as missing."""
BATCH = 1000
"""Rows that are in memory at once."""


@dataclass(frozen=True)
class Source:
    """The local file of one split, with the digest of its bytes at planning time.

    ``targets``: the columns that hold the target of a row, while its rows are read.
    """

    name: str
    reference: str
    path: Path
    sha256: str
    targets: tuple[str, ...] = ()

    @property
    def ending(self) -> str | None:
        """The file extension that determines the format, e.g. .csv for rows.csv.gz, or None."""
        return next((s.lower() for s in self.path.suffixes[::-1] if s.lower() in FORMATS), None)


@dataclass(frozen=True)
class Table:
    """The rows of a file, which the library has checked and written to ``files`` (Arrow streams).

    The files are read with plain reads: mapped pages would count as resident memory.
    """

    features: Any
    files: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        return list(self.features)

    def rows(self, columns: list[str]) -> Iterator[tuple[Any, ...]]:
        """Yield the values of some columns, row by row."""
        import pyarrow as pa

        for name in self.files:
            with pa.OSFile(name) as file, pa.ipc.open_stream(file) as batches:
                for batch in batches:
                    for start in range(0, batch.num_rows, BATCH):
                        part = batch.slice(start, BATCH).to_pydict()
                        values = self.features.decode_batch(part)
                        yield from zip(*(values[column] for column in columns), strict=True)


def check(source: Source) -> None:
    """Raise DataError if the extension names no format, or the file is empty."""
    if source.ending is None:
        known = ", ".join(FORMATS)
        raise DataError(
            f"{source.reference}: unknown file format; use one of the extensions {known}"
        )
    if source.path.stat().st_size == 0:
        raise DataError(f"{source.reference}: the {source.name} split is empty")


@contextmanager
def opened(source: Source) -> Iterator[Table]:
    """Read a file into a table, which exists inside the ``with`` block.

    The library's own cache is bypassed, because it trusts names and times.

    Raises DataError if the file is empty, cannot be read, or changed since it was located.
    """
    check(source)
    with tempfile.TemporaryDirectory(prefix="rarefy-data-") as cache:
        table = _read(source, cache)
        if file_sha256(source.path) != source.sha256:
            raise DataError(f"{source.reference}: the file changed while it was read; run again")
        yield table


def _read(source: Source, cache: str) -> Table:
    import datasets

    datasets.disable_progress_bars()
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False  # sent even for local files
    try:
        loaded = datasets.load_dataset(
            FORMATS[str(source.ending)],
            data_files={"rows": str(source.path)},
            split="rows",
            cache_dir=cache,
            **_options(source),
        )
    except Exception as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise DataError(f"{source.reference}: cannot be read: {reason}") from error
    return Table(loaded.features, tuple(file["filename"] for file in loaded.cache_files))


def _options(source: Source) -> dict[str, Any]:
    """Return the library's options for a format.

    A CSV file is read as text. By default the library turns true into True, 007 into 7 (decided
    chunk by chunk) and a label NA into None.
    """
    if source.ending == ".parquet":
        return {"batch_size": BATCH}  # by default a whole row group, which may be the file
    separator = {".csv": ",", ".tsv": "\t"}.get(str(source.ending))
    if separator is None:
        return {}
    import datasets
    import pandas

    text = datasets.Value("string")
    columns = pandas.read_csv(source.path, sep=separator, nrows=0).columns
    return CSV | {"sep": separator, "features": datasets.Features(dict.fromkeys(columns, text))}
