"""Predictions for the rows of a file, written beside the file's own columns."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from rarefy.pipeline.data import table as table_file
from rarefy.pipeline.data.table import is_missing
from rarefy.pipeline.release.predict import WINDOW, Bundle
from rarefy.pipeline.store import disk
from rarefy.pipeline.terms.digests import file_sha256
from rarefy.pipeline.terms.errors import DataError, RecipeError
from rarefy.pipeline.terms.progress import Progress
from rarefy.pipeline.terms.wording import file_hint

Row = tuple[Any, ...]
Write = Callable[[Mapping[str, Any]], None]
ENDINGS = (".csv", ".jsonl")
"""Of the files that are written."""
PREDICTION, SCORE = "prediction", "score"


def predict_file(
    model: Bundle, source: Path, text: Sequence[str], out: Path, progress: Progress
) -> int:
    """Write the rows of a file with a prediction for each; return how many have no text.

    Rows are read, predicted and written in windows, so a file may be larger than the memory. A
    row without a text stays without a prediction. ``out`` appears when it is complete.

    Args:
        model: predicts.
        source: a CSV, TSV, JSONL or Parquet file.
        text: its column of texts; two for pairs.
        out: the CSV or JSONL file to write.
        progress: is told the rows that are done.

    Raises:
        RecipeError: ``out`` has another ending, or is ``source``.
        DataError: ``source`` cannot be read, or lacks a column.
    """
    if out.suffix.lower() not in ENDINGS:
        raise RecipeError(f"--out {out}: give a file that ends with {' or '.join(ENDINGS)}")
    if out.exists() and out.samefile(source):
        raise RecipeError(f"--out {out} is the input file")
    part = out.with_name(f"{out.name}.part")
    try:
        with disk.placing(out):
            with part.open("w", encoding="utf-8", newline="") as file:
                blank = write_rows(model, source, text, file, out.suffix.lower(), progress)
            part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return blank


def write_rows(
    model: Bundle,
    source: Path,
    text: Sequence[str],
    file: IO[str],
    ending: str,
    progress: Progress,
) -> int:
    """Write the rows of ``source`` with predictions to an open file; see ``predict_file``.

    ``ending``: that of the format, .csv or .jsonl.
    """
    if not source.is_file():
        raise DataError(f"{source}: no such file{file_hint(source)}")
    read = table_file.Source("data", str(source), source, file_sha256(source))
    blank = done = 0
    with table_file.opened(read) as table:
        columns = table.names
        _check_columns(source, columns, text)
        places = [columns.index(column) for column in text]
        names = _names(columns)
        write = _writer(file, ending)
        total = sum(1 for _ in table.rows(columns[:1]))
        for window in _windows(table.rows(columns)):
            predictions = _predict(model, window, places)
            for row, prediction in zip(window, predictions, strict=True):
                values = dict(zip(columns, row, strict=True))
                values |= _cells(prediction, names)
                write(values)
            blank += predictions.count(None)
            done += len(window)
            progress(done, total, "rows predicted")
    return blank


def _check_columns(source: Path, columns: Sequence[str], text: Sequence[str]) -> None:
    """Raise DataError if a column of texts is not there."""
    for column in text:
        if column not in columns:
            raise DataError(
                f"{source}: no column {column!r}; it has {', '.join(columns)} (--text names one)"
            )


def _windows(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while window := list(itertools.islice(rows, WINDOW)):
        yield window


def _predict(model: Bundle, rows: Sequence[Row], places: Sequence[int]) -> list[Any]:
    """Return a prediction for each row; None for one without a text."""
    whole = []
    for number, row in enumerate(rows):
        if not any(is_missing(row[place]) for place in places):
            whole.append(number)
    columns = [[rows[number][place] for number in whole] for place in places]
    predictions: list[Any] = [None] * len(rows)
    for number, prediction in zip(whole, _answers(model, columns), strict=True):
        predictions[number] = prediction
    return predictions


def _answers(model: Bundle, columns: Sequence[list[Any]]) -> Iterable[Any]:
    """Return the predictions for texts, or for pairs of them."""
    first, *others = columns
    if not first:
        return ()
    return model.predict(first, *others)


def _names(columns: Sequence[str]) -> tuple[str, str]:
    """Return the names of the new columns, which the file has not got."""
    names = []
    for name in (PREDICTION, SCORE):
        while name in columns:
            name = f"{name}_"
        names.append(name)
    prediction, score = names
    return prediction, score


def _cells(prediction: Any, names: tuple[str, str]) -> dict[str, Any]:
    """Return what is predicted, and how probable it is; a number is its own score."""
    value, score = None, None
    if isinstance(prediction, list):  # one for each word of a text that is given as a list
        value = [word.tag for word in prediction]
        score = [word.score for word in prediction]
    elif prediction is not None:
        fields = prediction._asdict()
        shares = fields.pop("probabilities", None)
        value = next(iter(fields.values()))
        score = _score(value, shares)
    return dict(zip(names, (value, score), strict=True))


def _score(value: Any, shares: Mapping[str, float] | None) -> Any:
    """Return the probability of a label, or of each of several; None if there are none."""
    if isinstance(value, float):
        return value
    if shares is None:
        return None
    if isinstance(value, str):
        return shares[value]
    return [shares[label] for label in value]


def _writer(file: IO[str], ending: str) -> Write:
    """Return what writes a row; the first one's names are the header of a CSV file."""
    if ending == ".jsonl":
        return lambda row: print(json.dumps(row, ensure_ascii=False, default=str), file=file)
    table = csv.writer(file, lineterminator="\n")
    header: list[str] = []

    def write(row: Mapping[str, Any]) -> None:
        if not header:
            header.extend(row)
            table.writerow(header)
        table.writerow([_cell(row.get(name)) for name in header])

    return write


def _cell(value: Any) -> Any:
    """Return a value as CSV has it: lists and objects as JSON."""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value
