"""A file of predictions that another system made, and the rows of a recipe that they are for."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rarefy.pipeline.data import table as table_file
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.data.table import Source, as_text, is_missing, is_unicode
from rarefy.pipeline.model.tokens import words
from rarefy.pipeline.sources import references
from rarefy.pipeline.store.artifact import Artifact
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.tasks.token_classification import offsets
from rarefy.pipeline.tasks.token_classification.entities import Span
from rarefy.pipeline.terms.digests import file_sha256
from rarefy.pipeline.terms.errors import DataError
from rarefy.pipeline.terms.wording import plural
from rarefy.stages.training.run import texts_read_singly
from rarefy.stages.transfer import forms
from rarefy.stages.transfer.forms import LEAST, SPANS, VECTOR, Form

FILE, ID = "predictions", "predictions_id"
"""The keys of a manifest's facts: the name of the file in the artifact, and its column of ids."""


class Joined(NamedTuple):
    """The rows of a split that have predictions, and the raw outputs of their units, in order."""

    rows: list[int]
    outputs: NDArray[np.float32]
    """(units of these rows, width)."""


class Tagged(NamedTuple):
    """The spans of a row, of characters of its text without blanks, and the digest of that."""

    spans: tuple[Span, ...]
    text: bytes


@dataclass
class Predictions:
    """The predictions of a file by the digest of a row's text, or by its id.

    Attributes:
        reference: the file, for errors.
        task: of the recipe.
        by_id: whether rows are found by their id.
    """

    reference: str
    task: Task
    by_id: bool
    _values: dict[bytes, Any] = field(default_factory=dict)
    _numbers: dict[bytes, int] = field(default_factory=dict)
    """The number in the file, from 1, of each row."""

    def __len__(self) -> int:
        """Return the number of rows, equal ones counted once."""
        return len(self._values)

    @property
    def width(self) -> int:
        """The number of raw outputs of a row, which are not spans."""
        first = next(iter(self._values.values()))
        return len(first)

    def add(self, key: bytes, value: Any, number: int) -> None:
        """Add row ``number``. Raises DataError if its text or id is there with another value."""
        if self._values.setdefault(key, value) != value:
            same = "id" if self.by_id else "text"
            raise DataError(
                f"{self.reference}: rows {self._numbers[key]} and {number} have the same {same}, "
                "but different predictions; keep one"
            )
        self._numbers.setdefault(key, number)

    def join(self, split: Split) -> Joined:
        """Return the predictions for a split's rows.

        Raises DataError if its rows have no ids to join by, or spans do not fit one of them.
        """
        if self.task.head.body_only:
            return self._vectors(split)
        rows = []
        keys = []
        for row, key in enumerate(self._keys(split)):
            if key in self._values:
                rows.append(row)
                keys.append(key)
        if not self.task.encoder.of_words:
            return Joined(rows, self._table(keys))
        return Joined(rows, self._tags(split, rows, keys))

    def answers(self, split: Split) -> NDArray[np.float64]:
        """Return the predictions for all rows of a split, (units, columns), as models give them.

        Raises DataError if a row has none.
        """
        head, scorer = self.task.head, self.task.scorer
        if head.body_only:
            texts, _ = self.task.encoder.requests(split)
            keys = [digest(text) for text in texts]
            known_keys = [key for key in keys if key in self._values]
            self._check_whole(len(known_keys), len(keys), split)
            outputs = self._table(keys)
        else:
            rows, outputs = self.join(split)
            self._check_whole(len(rows), len(split), split)
        predictions = head.predictions(outputs)
        return scorer.retained(predictions, split)

    def _check_whole(self, count: int, total: int, split: Split) -> None:
        missing = total - count
        if missing:
            raise DataError(
                f"{self.reference}: no prediction for {missing:,} of {total:,} rows of "
                f"{split.reference}, which a comparison on {split.name} needs"
            )

    def _keys(self, split: Split) -> Iterator[bytes]:
        """Yield what each row is found by."""
        if self.by_id:
            if split.ids is None:
                raise DataError("label.id: name the column of ids in the data as well, as data.id")
            yield from (identity.encode() for identity in split.ids)
        elif self.task.encoder.of_words:
            yield from (digest(_condensed(text)) for text in split.texts)
        elif split.pairs is None:
            yield from map(digest, split.texts)
        else:
            yield from map(digest, split.texts, split.pairs)

    def _tags(
        self, split: Split, rows: Sequence[int], keys: Sequence[bytes]
    ) -> NDArray[np.float32]:
        """Return the logarithms of the probabilities of each word's tags, (words, tags).

        ``keys``: what the ``rows`` are found by.
        """
        labels = self.task.labels
        indices: list[int] = []
        for row, key in zip(rows, keys, strict=True):
            value = self._values[key]
            text = split.texts[row]
            where = f"{self.reference}: row {self._numbers[key]}"
            if value.text != digest(_condensed(text)):
                raise DataError(f"{where}: its text is not that of the row with its id")
            try:
                indices += forms.tags(value.spans, words.of(text), labels)
            except DataError as error:
                raise DataError(f"{where}: {error}") from error
        shape = (len(indices), len(labels))
        outputs = np.full(shape, math.log(LEAST), np.float32)
        words_of_all = np.arange(len(indices))
        outputs[words_of_all, indices] = 0.0
        return outputs

    def _vectors(self, split: Split) -> Joined:
        """Return the vectors of the rows of which every text has one."""
        from rarefy.pipeline.data.development_split import picked

        rows = []
        for row in range(len(split)):
            texts = [split.texts[row]]
            if split.pairs is not None:
                texts.append(split.pairs[row])
            if split.negatives is not None:
                texts += split.negatives[row]
            if all(digest(text) in self._values for text in texts):
                rows.append(row)
        some = picked(split, rows, split.name, split.sha256)
        keys = [digest(text) for text in texts_read_singly(some)]
        return Joined(rows, self._table(keys))

    def _table(self, keys: Sequence[bytes]) -> NDArray[np.float32]:
        """Return the raw outputs of rows, (rows, width)."""
        shape = (len(keys), self.width)
        table = np.empty(shape, np.float32)
        for place, key in enumerate(keys):
            table[place] = self._values[key]
        return table


def read(file: str, base: Path, task: Task, id_column: str | None) -> Predictions:
    """Read a file of predictions.

    Args:
        file: its path or reference.
        base: the recipe's folder.
        task: of the recipe, with its labels.
        id_column: the column of ids by which rows are found; None if their texts are.

    Raises:
        DataError: the file or a column is missing, it is empty, or a value is no prediction for
            the task.
    """
    path = references.data_file(file, base, "label.file")
    source = Source("predictions", file, path, file_sha256(path))
    form = forms.of_task(task)
    assert form is not None  # Label.check refuses other tasks
    predictions = Predictions(file, task, id_column is not None)
    with table_file.opened(source) as table:
        column = _column(form, table.names, file)
        texts = _text_columns(task, table.names, file, id_column)
        columns = [*texts, column] if id_column is None else [id_column, *texts, column]
        for number, values in enumerate(table.rows(columns), 1):
            if _is_blank(values[-1]):
                continue  # the other system gave none
            if not all(is_unicode(value) for value in values[:-1] if isinstance(value, str)):
                continue  # no row of the data has half a character, either
            try:
                key, value = _parsed(form, column, values, task, id_column is not None)
            except DataError as error:
                raise DataError(f"{file}: row {number}: {error}") from error
            _check_width(predictions, value, number)
            predictions.add(key, value, number)
    if not predictions:
        raise DataError(f"{file}: no row has a prediction")
    return predictions


def of_artifact(artifact: Artifact, task: Task) -> Predictions:
    """Return the predictions of the file that a label stage kept."""
    facts = artifact.manifest.model
    name = str(facts[FILE])
    return read(name, artifact.directory, task, facts[ID])


def digest(*texts: str) -> bytes:
    """Return 16 bytes of a row's texts, exactly as they are."""
    return blake2b("\0".join(texts).encode(), digest_size=16).digest()


def _is_blank(value: Any) -> bool:
    """Return whether a value is missing; NaN is there, and wrong."""
    if isinstance(value, str):
        return not value.strip()
    return value is None


def _condensed(text: str) -> str:
    """Return a text without blanks: words are split at others than those of another system."""
    return "".join(text.split())


def _column(form: Form, names: Sequence[str], file: str) -> str:
    for column in form.columns:
        if column in names:
            return column
    expected = " or ".join(map(repr, form.columns))
    raise DataError(f"{file}: no column {expected}; the file has {', '.join(names)}")


def _text_columns(
    task: Task, names: Sequence[str], file: str, id_column: str | None
) -> tuple[str, ...]:
    """Return the columns of a row's texts: those of the recipe, or ``text``; () if not needed."""
    has = f"the file has {', '.join(names)}"
    if id_column is not None:
        if id_column not in names:
            raise DataError(f"{file}: no column {id_column!r}; {has}")
        if not task.encoder.of_words:
            return ()
    columns = task.text_columns
    if task.head.body_only and len(columns) > 1:
        columns = ("text",)  # each row has the vector of one text
    if set(columns) <= set(names):
        return columns
    if len(columns) == 1 and "text" in names:
        return ("text",)
    missing = next(column for column in columns if column not in names)
    raise DataError(f"{file}: no column {missing!r}, by which rows are found; {has}")


def _parsed(
    form: Form, column: str, values: Sequence[Any], task: Task, by_id: bool
) -> tuple[bytes, Any]:
    """Return a row's key and its prediction: raw outputs, or spans of a text without blanks."""
    *before, value = values
    identity = before.pop(0) if by_id else None
    if by_id and is_missing(identity):
        raise DataError("it has no id")
    texts = [forms.plain(text) for text in before]
    for text in texts:
        if not isinstance(text, str) or is_missing(text):
            raise DataError("it has no text")
    parsed = form.parse(value, column, task.labels)
    key = as_text(identity).encode()
    if column == SPANS:
        (text,) = texts
        offsets.check(parsed, text)
        spans = forms.without_blanks(parsed, text)
        parsed = Tagged(spans, digest(_condensed(text)))
        by_text = parsed.text
    else:
        parsed = array("f", parsed)
        by_text = digest(*texts)
    return key if by_id else by_text, parsed


def _check_width(predictions: Predictions, value: Any, number: int) -> None:
    """Raise DataError if a vector is longer or shorter than the first."""
    if not predictions.task.head.body_only or not predictions:
        return
    width = predictions.width
    if len(value) != width:
        raise DataError(
            f"{predictions.reference}: row {number}: {VECTOR} has {plural(len(value), 'number')}, "
            f"but the first has {width}"
        )
