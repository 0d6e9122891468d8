"""The documents that queries search, and which of them each query of the eval split should find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rarefy.pipeline.data import table as table_file
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.data.table import Source, as_text, is_missing
from rarefy.pipeline.terms.digests import value_sha256
from rarefy.pipeline.terms.errors import DataError

NAME = "corpus"
"""The name of its source and of its split."""
ID, TEXT = "id", "text"


@dataclass(frozen=True)
class Corpus:
    """The documents of a file: their texts, and the place of each by its id."""

    source: Source
    texts: list[str]
    places: dict[str, int]

    def split(self) -> Split:
        """Return the documents as rows of text without labels."""
        return Split(NAME, self.source.reference, self.source.sha256, self.texts, None, None)


def read(source: Source) -> Corpus:
    """Read a file with the columns ``id`` and ``text``.

    Raises DataError if a column is missing, the file is empty, or an id or text is missing or an
    id is there twice.
    """
    texts: list[str] = []
    places: dict[str, int] = {}
    with table_file.opened(source) as table:
        for column in (ID, TEXT):
            if column not in table.names:
                names = ", ".join(table.names) or "none"
                raise DataError(
                    f"{source.reference}: no column {column!r}; a corpus has the columns id and "
                    f"text, the file has {names}"
                )
        for number, (value, text) in enumerate(table.rows([ID, TEXT]), 1):
            where = f"{source.reference}: row {number}"
            if is_missing(value):
                raise DataError(f"{where} has no id")
            identifier = as_text(value)
            if not isinstance(text, str) or not text.strip():
                raise DataError(f"{where}, document {identifier!r}, has no text")
            if identifier in places:
                raise DataError(f"{where}: duplicate id {identifier!r}")
            places[identifier] = len(texts)
            texts.append(text)
    if not texts:
        raise DataError(f"{source.reference}: the corpus is empty")
    return Corpus(source, texts, places)


def searching(rows: Split, corpus: Corpus) -> Split:
    """Return rows of a query and a document's id as one row for each query.

    A query that stands in several rows should find all their documents; its other columns are those
    of its first row. The digest covers both files. Raises DataError if an id is not in the corpus.
    """
    documents_of: dict[str, dict[int, None]] = {}  # ordered sets
    first_rows: list[int] = []
    pairs = zip(rows.texts, rows.pairs or (), strict=True)
    for row, (query, document) in enumerate(pairs):
        place = corpus.places.get(document)
        if place is None:
            raise DataError(
                f"{rows.reference}: the query {query[:40]!r} should find the document "
                f"{document[:40]!r}, which is not an id in {corpus.source.reference}"
            )
        if query not in documents_of:
            documents_of[query] = {}
            first_rows.append(row)
        documents_of[query][place] = None

    def pick(values: Sequence[str]) -> list[str]:
        return [values[row] for row in first_rows]

    groups = rows.groups
    if groups is not None:
        groups = pick(groups)
    rows = replace(rows, ids=None)  # of which a query may have several
    return replace(
        rows,
        sha256=_both(rows.sha256, corpus.source.sha256),
        texts=list(documents_of),
        pairs=None,
        labels=[tuple(places) for places in documents_of.values()],
        columns={name: pick(values) for name, values in rows.columns.items()},
        groups=groups,
        corpus=corpus.texts,
    )


def digest(sources: Mapping[str, Source], split: str = "eval") -> str:
    """Return the digest of a split, with that of the corpus if it is searched."""
    rows = sources[split].sha256
    if NAME not in sources:
        return rows
    return _both(rows, sources[NAME].sha256)


def _both(rows: str, documents: str) -> str:
    return value_sha256([rows, documents])


def negatives(value: Any, column: str, source: Source, number: int) -> tuple[str, ...]:
    """Return the texts in a row's column of negatives.

    Args:
        value: what the column holds: a text, a list of texts, or nothing.
        column: its name.
        source: the file.
        number: the number of the row, counted from 1.

    Raises:
        DataError: the column holds something else.
    """
    if is_missing(value):
        return ()
    texts: Sequence[Any] = [value] if isinstance(value, str) else value
    if isinstance(texts, list) and all(map(_has_words, texts)):
        return tuple(texts)
    raise DataError(
        f"{source.reference}: row {number}: column {column!r} holds {str(value)[:40]!r}; expected "
        "a text or a list of texts"
    )


def _has_words(text: Any) -> bool:
    return isinstance(text, str) and bool(text.strip())
