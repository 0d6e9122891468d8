"""A data file as a table, read batch by batch with the datasets library."""

from __future__ import annotations

import csv
import glob
import itertools
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TextIO

from rarefy.pipeline.data import json_lines
from rarefy.pipeline.store import disk, locks
from rarefy.pipeline.terms.digests import file_sha256
from rarefy.pipeline.terms.errors import DataError

FORMATS = {
    ".jsonl": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
SEPARATORS = {".csv": ",", ".tsv": "\t"}
OTHERS = (";", "\t", "|")
"""What other programs write between fields."""
CSV = {"keep_default_na": False, "na_values": ["", "nan", "NaN"], "index_col": False}
"""Without these options, a label or a text "None", "NA" or "null" would count as missing, and a
first row with one field more than the header would shift all columns by one."""
BATCH = 1000
"""Rows that are in memory at once."""
LONGEST = 1 << 24
"""Characters of a field. What is longer begins with a quotation mark that nothing closes; the bound
keeps such a file out of memory."""
csv.field_size_limit(LONGEST)  # for the whole process; by default 131,072, fewer than a book has


@dataclass(frozen=True)
class Source:
    """The local file of one split, with the digest of its bytes at planning time.

    ``targets``: the columns that hold the target of a row, while its rows are read.
    ``labels_of``: what has all labels that its rows may have, for errors.
    """

    name: str
    reference: str
    path: Path
    sha256: str
    targets: tuple[str, ...] = ()
    labels_of: str = "train"

    @property
    def ending(self) -> str | None:
        """The file extension that determines the format, e.g. .csv for rows.csv.gz, or None."""
        for suffix in reversed(self.path.suffixes):
            if suffix.lower() in FORMATS:
                return suffix.lower()
        return None


@dataclass
class Table:
    """The rows of a file, which the library has checked and written to ``files`` (Arrow streams).

    The files are read with plain reads: mapped pages would count as resident memory. Values that
    the library altered are given as in the file.
    """

    source: Source
    features: Any
    files: tuple[str, ...]
    count: int

    @property
    def names(self) -> list[str]:
        return list(self.features)

    def rows(self, columns: list[str]) -> Iterator[tuple[Any, ...]]:
        """Yield the values of some columns, row by row.

        Raises DataError if the header of a CSV or TSV file names one of them twice, if values that
        the library altered cannot be read from the file, or if JSON is not in UTF-8.
        """
        import pyarrow as pa

        _check_header(self.source, columns)
        is_json = FORMATS[str(self.source.ending)] == "json"
        original = json_lines.Original(self.source.path, self.features) if is_json else None
        for name in self.files:
            with pa.OSFile(name) as file, pa.ipc.open_stream(file) as batches:
                for batch in batches:
                    for start in range(0, batch.num_rows, BATCH):
                        part = self._part(batch.slice(start, BATCH))
                        values = self.features.decode_batch(part)
                        if original is not None:
                            self._restore(original, values, columns)
                        yield from zip(*(values[column] for column in columns), strict=True)

    def _part(self, batch: Any) -> dict[str, list[Any]]:
        try:
            values: dict[str, list[Any]] = batch.to_pydict()
        except UnicodeDecodeError as error:  # which the library's JSON reader does not look for
            raise not_unicode(self.source.reference, error) from error
        return values

    def _restore(self, original: json_lines.Original, values: Any, columns: list[str]) -> None:
        try:
            original.restore(values, columns)
        except ValueError as error:
            raise DataError(
                f"{self.source.reference}: has dates or integers beyond 64 bits, so it needs an "
                "object in each line"
            ) from error


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

    Raises DataError if the file is empty, cannot be read, or changed since it was located, and
    ProviderError if the disk for temporary files is full.
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
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what fails is said here
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False  # sent even for local files
    try:
        loaded = _loaded(source, cache)
    except DataError:
        raise
    except Exception as error:
        if disk.is_full(error):
            # The cause stays behind: who writes to the store would take its disk for the full one.
            raise locks.no_space(Path(cache).parent) from None
        cause = error.__cause__ or error
        if isinstance(cause, UnicodeDecodeError):
            raise not_unicode(source.reference, cause) from error
        reason = str(cause).strip().splitlines()[0]
        raise DataError(f"{source.reference}: cannot be read: {reason}") from error
    files = tuple(file["filename"] for file in loaded.cache_files)
    return Table(source, loaded.features, files, loaded.num_rows)


def not_unicode(reference: str, error: UnicodeDecodeError) -> DataError:
    """Return an error that says how a file of another encoding is converted."""
    return DataError(
        f"{reference}: is not UTF-8 (byte 0x{error.object[error.start]:02x}); convert it, e.g.: "
        "iconv -f latin1 -t utf-8 OLD > NEW"
    )


def _loaded(source: Source, cache: str) -> Any:
    import datasets

    load = partial(
        datasets.load_dataset,
        FORMATS[str(source.ending)],
        data_files={"rows": glob.escape(str(source.path))},
        split="rows",
        cache_dir=cache,
        keep_in_memory=False,  # whatever the environment asks for: the rows are read from the cache
    )
    try:
        return load(**_options(source))
    except datasets.exceptions.DatasetGenerationError as error:
        if source.ending not in (".json", ".jsonl") or isinstance(error.__cause__, OSError):
            raise
        try:
            features = json_lines.features(source.path)
        except ValueError:
            raise error from error.__cause__
    return load(features=features)


def _options(source: Source) -> dict[str, Any]:
    """Return the library's options for a format.

    A CSV file is read as text. By default the library turns true into True, 007 into 7 (decided
    chunk by chunk) and a label NA into None.
    """
    if source.ending == ".parquet":
        return {"batch_size": BATCH}  # by default a whole row group, which may be the file
    separator = SEPARATORS.get(str(source.ending))
    if separator is None:
        return {}
    import datasets
    import pandas

    text = datasets.Value("string")
    quoting = csv.QUOTE_NONE if form(source) == "unquoted" else csv.QUOTE_MINIMAL
    options = CSV | {"sep": separator, "quoting": quoting}
    columns = pandas.read_csv(source.path, **options, nrows=0).columns
    return options | {"features": datasets.Features(dict.fromkeys(columns, text))}


def form(source: Source) -> Literal["unquoted", "trailing"] | None:
    """Return how a table of text differs from what CSV is, if it does.

    unquoted: a TSV file in which each line is a row, and a quotation mark a character like others:
    read as CSV, some would join lines, although each has as many fields as the header. trailing:
    the first row ends with a separator that the header does not have, and rows with such an end
    have nothing in it.

    Raises DataError if rows that follow such a first one have more fields with something in them,
    or if the fields are separated by something else.
    """
    separator = SEPARATORS.get(str(source.ending))
    if separator is None:
        return None
    with suppress(csv.Error), _text(source) as file:  # what cannot be parsed is pandas' to name
        rows = filter(None, csv.reader(file, delimiter=separator))
        header, first = next(rows, []), next(rows, [])
        _check_separator(source, header)
        if len(first) > len(header):
            _check_ends(source, len(header), itertools.chain([first], rows))
            return "trailing"
    if separator == "\t" and _is_unquoted(source):
        return "unquoted"
    return None


def _check_separator(source: Source, header: list[str]) -> None:
    """Raise DataError if the header is one column that has another separator in it."""
    if len(header) != 1:
        return
    [column] = header
    if any(separator in column for separator in OTHERS):
        raise DataError(
            f"{source.reference}: the header is one column, {column!r}; fields are separated by "
            "commas in a .csv file, and by tabs in a .tsv file"
        )


def _check_ends(source: Source, width: int, rows: Iterable[list[str]]) -> None:
    """Raise DataError if a row has something in the fields for which the header has no name."""
    for number, row in enumerate(rows, 1):
        if any(row[width:]):
            where = f"{source.reference}: row {number}"
            raise DataError(
                f"{where} has {len(row)} fields, the header {width}; put texts that contain the "
                "separator in quotes, or name each column"
            )


def _check_header(source: Source, columns: Sequence[str]) -> None:
    """Raise DataError if the header has one of the columns twice: pandas renames the second."""
    separator = SEPARATORS.get(str(source.ending))
    header: list[str] = []
    if separator is not None:
        with suppress(csv.Error), _text(source) as file:
            header = next(filter(None, csv.reader(file, delimiter=separator)), [])
    for column in columns:
        if header.count(column) > 1:
            raise DataError(
                f"{source.reference}: the header has the column {column!r} twice; rename one"
            )


def _is_unquoted(source: Source) -> bool:
    with _text(source) as file:
        counts = [line.count("\t") for line in file if line.strip("\r\n")]
    if len(set(counts)) != 1:
        return False
    with _text(source) as file:
        try:
            return sum(1 for row in csv.reader(file, delimiter="\t") if row) < len(counts)
        except csv.Error:
            return True


@contextmanager
def _text(source: Source) -> Iterator[TextIO]:
    """Open a file of text, compressed or not. Bytes that are no text are for the reader to name."""
    import fsspec

    options = {"encoding": "utf-8-sig", "errors": "replace", "newline": ""}
    with fsspec.open(str(source.path), "rt", compression="infer", **options) as file:
        yield file
