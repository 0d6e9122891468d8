"""A data file as a table, read batch by batch, and its single values.

A compressed file is read up to a bound: a few bytes may stand for any number.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, TextIO

from rarefy.pipeline.terms import bounds, json_text
from rarefy.pipeline.terms.digests import file_sha256
from rarefy.pipeline.terms.errors import DataError
from rarefy.pipeline.terms.wording import size

ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
SEPARATORS = {".csv": ",", ".tsv": "\t"}
OTHERS = (";", "\t", "|")
"""What other programs write between fields."""
CSV = {"keep_default_na": False, "na_values": ["", "nan", "NaN"], "index_col": False}
"""Without these options, a label or a text "None", "NA" or "null" would count as missing, and a
first row with one field more than the header would shift all columns by one."""
BATCH = 1000
"""Rows that are in memory at once."""
COLUMNAR = 100
"""The same of a Parquet file, in which a long text may stand once for many rows."""
LONGEST = 1 << 24
"""Characters of a field. What is longer begins with a quotation mark that nothing closes; the bound
keeps such a file out of memory."""
csv.field_size_limit(LONGEST)  # for the whole process; by default 131,072, fewer than a book has

_BEGINNING = 64
"""Bytes that tell a list of rows from a row in each line."""
IGNORED = -100
"""The target of a unit that has none, which losses leave out."""


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
            if suffix.lower() in ENDINGS:
                return suffix.lower()
        return None


@dataclass
class Table:
    """The rows of a file, which is read anew, batch by batch, by each call of ``rows``."""

    source: Source
    names: list[str]

    def rows(self, columns: list[str]) -> Iterator[tuple[Any, ...]]:
        """Yield the values of some columns, row by row.

        Raises DataError if the header of a CSV or TSV file names one of them twice, or if the file
        cannot be read.
        """
        with _reading(self.source):
            _check_header(self.source, columns)
            yield from _FORMATS[str(self.source.ending)].rows(self.source, columns)


def check(source: Source) -> None:
    """Raise DataError if the extension names no format, or the file is empty."""
    if source.ending is None:
        known = ", ".join(ENDINGS)
        raise DataError(
            f"{source.reference}: unknown file format; use one of the extensions {known}"
        )
    if source.path.stat().st_size == 0:
        raise DataError(f"{source.reference}: the {source.name} split is empty")


@contextmanager
def opened(source: Source) -> Iterator[Table]:
    """Read the names of a file's columns; its rows can be read inside the ``with`` block.

    Raises DataError if the file is empty, cannot be read, or changed since it was located.
    """
    check(source)
    with _reading(source):
        names = list(_FORMATS[str(source.ending)].names(source))
    yield Table(source, names)
    if file_sha256(source.path) != source.sha256:
        raise DataError(f"{source.reference}: the file changed while it was read; run again")


@contextmanager
def _reading(source: Source) -> Iterator[None]:
    """Turn what the libraries raise into a DataError of one line."""
    try:
        yield
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise not_unicode(source.reference, error) from error
    except Exception as error:  # whatever a library of compression or of a format raises
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DataError(f"{source.reference}: cannot be read: {reason}") from error


def not_unicode(reference: str, error: UnicodeDecodeError) -> DataError:
    """Return an error that says how a file of another encoding is converted."""
    return DataError(
        f"{reference}: is not UTF-8 (byte 0x{error.object[error.start]:02x}); convert it, e.g.: "
        "iconv -f latin1 -t utf-8 OLD > NEW"
    )


def _binary(source: Source) -> AbstractContextManager[IO[bytes]]:
    return open_bounded(source.path, source.reference)


class _Json:
    """A file with an object in each line, or a list of objects or texts."""

    @staticmethod
    def names(source: Source) -> dict[str, None]:
        names: dict[str, None] = {}
        for row in _Json._objects(source):
            names |= dict.fromkeys(row)
        return names

    @staticmethod
    def rows(source: Source, columns: list[str]) -> Iterator[tuple[Any, ...]]:
        for row in _Json._objects(source):
            yield tuple(row.get(column) for column in columns)

    @staticmethod
    def _objects(source: Source) -> Iterator[dict[str, Any]]:
        with _binary(source) as file:
            start = file.read(_BEGINNING).removeprefix(codecs.BOM_UTF8)
            file.seek(0)
            if start.lstrip().startswith(b"["):
                text = file.read().removeprefix(codecs.BOM_UTF8)
                values = iter(json_text.parse(text.decode()))
            else:
                lines = bounded_lines(file, source.reference)
                first = next(lines, b"").removeprefix(codecs.BOM_UTF8)
                lines = itertools.chain([first], lines)
                values = (json_text.parse(line.decode()) for line in lines if line.strip())
            for value in values:
                if isinstance(value, dict):
                    yield value
                elif isinstance(value, str):
                    yield {"text": value}
                else:
                    raise ValueError(f"{value!r:.40} is not an object")


class _Text:
    """A CSV or TSV file. Its values are text, as they stand there, or missing.

    By default pandas turns true into True, 007 into 7 (decided chunk by chunk) and a label NA into
    a missing one.
    """

    @staticmethod
    def names(source: Source) -> Any:
        with _Text._frames(source, 1) as frames:
            return next(iter(frames)).columns

    @staticmethod
    def rows(source: Source, columns: list[str]) -> Iterator[tuple[Any, ...]]:
        with _Text._frames(source, BATCH) as frames:
            for frame in frames:
                texts = frame[columns]
                yield from texts.where(texts.notna(), None).itertuples(index=False, name=None)

    @staticmethod
    @contextmanager
    def _frames(source: Source, size: int) -> Iterator[Any]:
        import pandas

        quoting = csv.QUOTE_NONE if form(source) == "unquoted" else csv.QUOTE_MINIMAL
        separator = SEPARATORS[str(source.ending)]
        with _binary(source) as file:
            yield pandas.read_csv(
                file, **CSV, sep=separator, quoting=quoting, dtype=object, chunksize=size
            )


class _Parquet:
    @staticmethod
    def names(source: Source) -> Any:
        from pyarrow import parquet

        with _binary(source) as file:
            return parquet.read_schema(file).names

    @staticmethod
    def rows(source: Source, columns: list[str]) -> Iterator[tuple[Any, ...]]:
        from pyarrow import parquet

        with _binary(source) as file:
            table = parquet.ParquetFile(file)
            rows = table.metadata.num_rows
            if rows > bounds.ROWS_A_BYTE * source.path.stat().st_size:
                raise DataError(
                    f"{source.reference}: {rows:,} rows in so few bytes are nearly all equal; "
                    "leave out those that repeat"
                )
            for batch in table.iter_batches(COLUMNAR, columns=columns):
                if sum(map(_bytes, batch.columns)) > bounds.BATCH:
                    raise DataError(
                        f"{source.reference}: {len(batch)} rows have more than "
                        f"{size(bounds.BATCH)}; write shorter texts"
                    )
                values = batch.to_pydict()
                yield from zip(*(values[column] for column in columns), strict=True)


def _bytes(column: Any) -> int:
    """Return the bytes of a column's values, each as often as it stands there."""
    import pyarrow
    from pyarrow import compute

    if not isinstance(column, pyarrow.DictionaryArray):
        return int(column.nbytes)
    try:
        lengths = compute.binary_length(column.dictionary)
    except pyarrow.ArrowNotImplementedError:  # of numbers
        return int(column.nbytes)
    return compute.sum(lengths.take(column.indices)).as_py() or 0


_FORMATS: dict[str, type[_Json | _Text | _Parquet]] = dict(
    zip(ENDINGS, (_Json, _Json, _Text, _Text, _Parquet), strict=True)
)


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
        if len(header) > bounds.COLUMNS:
            raise DataError(
                f"{source.reference}: the header has {len(header):,} columns, of at most "
                f"{bounds.COLUMNS:,}"
            )
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
    with (
        _binary(source) as file,
        io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="") as text,
    ):
        yield text


def expansion_limit(path: Path) -> int:
    """Return how many bytes a compressed file may expand to."""
    return max(bounds.EXPANDED, bounds.RATIO * path.stat().st_size)


def expansion_error(reference: str) -> DataError:
    """Return the error of a file that expands beyond that."""
    return DataError(
        f"{reference}: expands to more than {bounds.RATIO} times its size; if that is intended, "
        "give an uncompressed JSONL file"
    )


class _Expanding(io.RawIOBase):
    """What a compressed file holds; more than ``most`` bytes of it are refused."""

    def __init__(self, file: IO[bytes], most: int, reference: str) -> None:
        self._file, self._most, self._reference = file, most, reference
        self._read = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._file.seekable()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(len(buffer))
        self._read += len(content)
        if self._read > self._most:
            raise expansion_error(self._reference)
        buffer[: len(content)] = content
        return len(content)


@contextmanager
def open_bounded(path: Path, reference: str) -> Iterator[IO[bytes]]:
    """Open a file of bytes, which may be compressed.

    What it gives raises DataError once it has expanded beyond all measure; ``reference``: what
    errors call the file.
    """
    import fsspec

    with fsspec.open(str(path), "rb", compression="infer") as file:
        if fsspec.utils.infer_compression(str(path)) is None:
            yield file
            return
        with io.BufferedReader(
            _Expanding(file, expansion_limit(path), reference), 1 << 16
        ) as bounded:
            yield bounded


def bounded_lines(file: IO[bytes], reference: str) -> Iterator[bytes]:
    """Yield the lines of a file. Raises DataError at one that is longer than any row."""
    while line := file.readline(bounds.LINE + 1):
        if len(line) > bounds.LINE:
            raise DataError(
                f"{reference}: a line has more than {size(bounds.LINE)}; write one row in each line"
            )
        yield line


def is_missing(value: Any) -> bool:
    """Return whether a cell is empty: null, NaN, or blank text."""
    if isinstance(value, float):
        return math.isnan(value)
    if isinstance(value, str):
        return not value.strip()
    return value is None


def as_text(value: Any) -> str:
    """Return a value as text. Missing values turn integers into floats, so 1.0 is the text 1."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def as_number(value: Any) -> float | None:
    """Return a value, or text that reads as a number, as a finite number; None if it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def is_unicode(text: str) -> bool:
    """Return False if a text has half of a surrogate pair, which is no character to a tokenizer.

    JSON can hold one, and bytes that are not UTF-8 are read as such.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def given_text(value: Any) -> str:
    """Return a text that a user gives to be answered. Raises DataError if it is none."""
    if not isinstance(value, str):
        raise DataError(f"{value!r:.60} is not text, but of type {type(value).__name__}")
    if not is_unicode(value):
        raise DataError(f"{value!r:.60} is not valid Unicode")
    return value
