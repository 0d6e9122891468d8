"""Text with targets: read with the datasets library, checked, and identified by a digest."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.model import sources
from pipeline.stage import alike, corpus, development, table_file
from pipeline.stage.split import Split
from pipeline.stage.table_file import Source, Table
from pipeline.stage.tasks.file_rows import FileRows
from pipeline.stage.texts import Texts
from pipeline.stage.values import as_text, is_missing
from pipeline.terms.digests import file_sha256, value_sha256
from pipeline.terms.errors import DataError
from pipeline.terms.vocabulary import Data
from pipeline.terms.wording import plural

FEWEST = 3
"""The fewest eval rows whose scores have a correlation: that of two is 1 or −1."""
SHOWN = 20
"""Labels of a model that an error names."""
READING = 2
"""The version of how files are read: raised when the same ones give other rows or targets."""
VERSION = 9
"""Of the summary: raised when what it says of the same rows changes."""
NO_VALUE = "(none)"
"""The slice of rows without a value in the slice's column; see ``_alone`` for their group."""


@dataclass(frozen=True)
class Summary:
    """Facts about the recipe's data, saved under its digest so that it need not be read again.

    ``warnings`` are sentences for the user, e.g. how many rows were left out and why. ``left_out``:
    the digest of a split's rows that are in its file but left out because of other files.
    """

    labels: list[str]
    rows: dict[str, int]
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def locate(data: Data, base: Path) -> dict[str, Source]:
    """Find the file of every split and hash its bytes. Raises DataError if one is missing."""
    found = {}
    for name, reference in data.references.items():
        path = sources.data_file(reference, base, f"data.{name}")
        found[name] = Source(name, reference, path, file_sha256(path))
    if development.NAME not in found:
        found[development.NAME] = development.source(found["train"], data.share, data.group)
    return found


def read_text(data: Data, task: type[FileRows], reference: str, base: Path) -> Split:
    """Read only the text columns of a file, labelled or not. Raises DataError like ``load``."""
    path = sources.data_file(reference, base, "data")
    source = Source("unlabelled", reference, path, file_sha256(path))
    raw = _rows(data, task, source, [], list)
    return Split(source.name, reference, source.sha256, raw.texts, raw.pairs, None)


def digest(data: Data, splits: dict[str, Source]) -> str:
    """Return one digest over the bytes of all splits and the recipe's settings for reading them."""
    value = {
        "reading": reading(data) | {"slices": data.slices},
        "splits": {name: s.sha256 for name, s in splits.items()},
    }
    return value_sha256(value)


def reading(data: Data) -> dict[str, Any]:
    """Return the recipe's options for reading rows, apart from where they are, and the versions.

    Train is what the development split leaves of it, also for a stage that reads train alone.
    """
    cut = {"dev": [data.share, development.VERSION]} if data.dev_file is None else {}
    negatives = {"negatives": data.negatives} if data.negatives else {}
    options = data.model_dump(include={"text", "label", "group", "max_length"}, mode="json")
    windows = {"long_texts": data.long_texts} if data.long_texts != "cut" else {}
    return {"version": READING} | cut | negatives | windows | options


def load(
    data: Data,
    task: type[FileRows],
    located: dict[str, Source],
    order: list[str] | None = None,
    folder: Path | None = None,
) -> tuple[dict[str, Split], Summary]:
    """Read all splits; ``order`` is the label order of an existing model, if there is one.

    ``folder`` is where the texts are kept that are not held in memory; see ``Texts``.

    Raises DataError if a column is missing or unsuitable, a split is empty, train teaches nothing,
    another split has a label that train lacks, or a file changed since it was located.
    """
    _check_search(data, task)
    warnings: list[str] = []
    cut = located[development.NAME] if data.dev_file is None else None
    documents = corpus.read(located[corpus.NAME]) if corpus.NAME in located else None
    raw = {
        name: _rows(
            data, task, source, warnings, list if name == "eval" else partial(Texts, folder)
        )
        for name, source in located.items()
        if source is not cut and name != corpus.NAME
    }
    targets = raw["train"].targets
    names = order or ([] if targets is None else task.names(targets, located["train"]))
    splits, counts = {}, {}
    for name, rows in raw.items():
        splits[name] = _split(task, located[name], rows, names, warnings)
        if rows.targets is not None:
            counts[name] = task.counts(rows.targets, names)
            absent = [label for label, count in counts[name].items() if not count]
            if absent:
                warnings.append(f"{name}: no row has the label {', '.join(map(repr, absent[:3]))}")
    if documents is not None:
        splits["eval"] = corpus.searching(splits["eval"], documents)
        splits[corpus.NAME] = documents.split()
    if cut is not None:
        train = splits["train"]
        strata = [task.stratum(target) for target in train.labels or ()]
        splits["train"], splits[cut.name] = development.cut(train, strata, data.share, cut)
        if said := development.warning(train, splits[cut.name], data.share):
            warnings.append(said)
        classes = set(strata) - {None}
        if classes and (lost := classes.difference(splits["train"].labels or ())):
            which = ", ".join(repr(name) for label, name in enumerate(names) if label in lost)
            warnings.append(
                f"train: all rows with the label {which} became development rows with their "
                "groups; give data.dev"
            )
    if task.queries and data.group:
        _share_grades(splits)
    gone = _leave_out(splits, warnings, singly=task.singly)
    _warn_overlap(splits, warnings, cut=cut is not None)
    sizes = {name: len(split) for name, split in splits.items()}
    return splits, Summary(names, sizes, counts, warnings, gone)


def evaluated(
    data: Data,
    task: type[FileRows],
    located: dict[str, Source],
    labels: list[str],
    warnings: list[str],
) -> Split:
    """Read only the eval split, for a model that has these labels; nothing of train is opened.

    ``warnings`` gets what is to be said of its rows.

    Raises DataError like ``load``, and for a label that the model does not have.
    """
    _check_search(data, task)
    shown = ", ".join([*labels[:SHOWN], *(["…"] if len(labels) > SHOWN else [])])
    source = replace(located["eval"], labels_of=f"the model's labels ({shown})")
    split = _split(task, source, _rows(data, task, source, warnings, list), labels, warnings)
    if corpus.NAME not in located:
        return split
    return corpus.searching(split, corpus.read(located[corpus.NAME]))


def _check_search(data: Data, task: type[FileRows]) -> None:
    if data.search_option and not task.searches:
        raise DataError(f"data.{data.search_option}: {task.name} searches nothing; leave it out")


@dataclass
class _Raw:
    texts: Sequence[str]
    pairs: Sequence[str] | None
    targets: list[Any] | None
    columns: dict[str, list[str]]
    groups: list[str] | None
    negatives: list[tuple[str, ...]] | None


def _split(
    task: type[FileRows], source: Source, rows: _Raw, names: list[str], warnings: list[str]
) -> Split:
    """Return rows as a split, their targets as numbers: places in ``names`` if they are labels."""
    labels = None
    if source.name == "eval" and len(rows.texts) < task.fewest:
        raise DataError(
            f"{source.reference}: eval has {plural(len(rows.texts), 'row')}; {task.name} of "
            f"such rows needs at least {task.fewest}"
        )
    if rows.targets is not None:
        ranked = task.queries and rows.groups is not None
        correlated = source.name == "eval" and task.correlates and not ranked
        if correlated and len(rows.targets) < FEWEST:
            raise DataError(
                f"{source.reference}: eval has {plural(len(rows.targets), 'row')}; a "
                f"correlation of fewer than {FEWEST} has no meaning"
            )
        labels = task.indexed(rows.targets, names, source)
        if rows.groups is not None:
            warnings += task.check_groups(labels, rows.groups, source)
    return Split(
        source.name,
        source.reference,
        source.sha256,
        rows.texts,
        rows.pairs,
        labels,
        rows.columns,
        rows.groups,
        rows.negatives,
    )


def _rows(
    data: Data,
    task: type[FileRows],
    source: Source,
    warnings: list[str],
    store: Callable[[], Any],
) -> _Raw:
    """Read a split's usable rows; ``store`` makes what holds a text column: a list, ``Texts``."""
    targets = task.target_columns(data) if source.name != "unlabelled" else ()
    source = replace(source, targets=targets)
    others = list(data.slices) if source.name == "eval" else []
    grouped = [data.group] if data.group and source.name != "unlabelled" else []
    count = len(data.text_columns)
    wrong = [data.negatives] if data.negatives and source.name in ("train", "dev") else []
    columns = [*data.text_columns, *targets, *others, *grouped, *wrong]
    texts = [store() for _ in data.text_columns]
    found: list[Any] = []
    values: list[list[str]] = [[] for _ in others]
    groups: list[str] = []
    negatives: list[tuple[str, ...]] = []
    known: dict[str, str] = {}
    left: Counter[str] = Counter()
    with table_file.opened(source) as table:
        missing = [column for column in columns if column not in table.names]
        if missing:
            known_names = ", ".join(table.names) or "none"
            bare = missing[0].lower() == "none" and missing[0] in targets
            hint = "; for rows without labels, write label: null" if bare else ""
            raise DataError(
                f"{source.reference}: no column {missing[0]!r}; the file has {known_names}{hint}"
            )
        for column in targets:
            task.check_column(_once(table, column), column, source)
        for number, row in enumerate(table.rows(columns), 1):
            read = task.read_row(row[:count], row[count : count + len(targets)], source, number)
            if isinstance(read, str):
                left[read] += 1
                continue
            for column, text in zip(texts, read[0], strict=True):
                column.append(text)
            target = read[1]
            found.append(known.setdefault(target, target) if isinstance(target, str) else target)
            if wrong:
                negatives.append(corpus.negatives(row[-1], str(data.negatives), source, number))
            further = row[count + len(targets) :]
            for listed, value in zip(values, further, strict=False):
                text = NO_VALUE if is_missing(value) else as_text(value)
                listed.append(known.setdefault(text, text))
            if grouped:
                value = further[len(others)]
                if task.queries and is_missing(value):
                    raise DataError(
                        f"{source.reference}: row {number} has no value in {data.group!r}, whose "
                        "rows with the same value are one query"
                    )
                text = _alone(read[0]) if is_missing(value) else as_text(value)
                groups.append(known.setdefault(text, text))
    reasons = [f"{plural(rows, 'row')} {reason}" for reason, rows in left.items()]
    if not len(texts[0]):
        why = f": {', '.join(reasons)}" if reasons else ""
        raise DataError(f"{source.reference}: the {source.name} split has no usable rows{why}")
    warnings += [f"{source.name}: {reason} left out" for reason in reasons]
    return _Raw(
        texts[0],
        texts[1] if len(texts) == 2 else None,
        found if targets else None,
        dict(zip(others, values, strict=True)),
        groups if grouped else None,
        negatives if wrong else None,
    )


def _alone(texts: Sequence[str]) -> str:
    """Return the group of a row without a value in the group's column: its own.

    Rows of the same texts share it, so that they are not on both sides of a cut. All such rows in
    one group would be cut off together, or never.
    """
    return f"{NO_VALUE} {alike.digest(texts).hex()}"


def _once(table: Table, column: str) -> Iterator[Any]:
    """Yield a column's values, each text once."""
    seen = set()
    for (value,) in table.rows([column]):
        if not isinstance(value, str):
            yield value
        elif value not in seen:
            seen.add(value)
            yield value


def _share_grades(splits: dict[str, Split]) -> None:
    """Let grades of dev be shares of train's greatest."""
    train, dev = splits["train"], splits.get(development.NAME)
    if train.labels and dev is not None and dev.labels:
        splits[dev.name] = replace(dev, greatest=train.greatest_label)


def _leave_out(splits: dict[str, Split], warnings: list[str], *, singly: bool) -> dict[str, str]:
    """Leave out unlabelled rows that stand in dev or eval: a student would learn answers to them.

    Return the digest of what was left out, by split. With ``singly``, for models that read each
    text of a pair alone, one text in common is enough. Raises DataError if none is left.
    """
    given = splits.get("unlabelled")
    if given is None:
        return {}
    held_out = {
        digest
        for name in ("dev", "eval")
        if name in splits
        for row in _pairs(splits[name])
        for digest in alike.digests(row, singly=singly)
    }
    gone = [
        at
        for at, row in enumerate(_pairs(given))
        if not held_out.isdisjoint(alike.digests(row, singly=singly))
    ]
    if len(gone) == len(given):
        raise DataError(f"{given.reference}: all unlabelled rows stand in dev or eval as well")
    if not gone:
        return {}
    verb = "stands in dev or eval and is" if len(gone) == 1 else "stand in dev or eval and are"
    warnings.append(f"unlabelled: {plural(len(gone), 'row')} {verb} left out")
    kept = sorted(set(range(len(given))).difference(gone))
    splits["unlabelled"] = development.picked(given, kept, given.name, given.sha256)
    return {"unlabelled": value_sha256(gone)}


def _warn_overlap(splits: dict[str, Split], warnings: list[str], *, cut: bool) -> None:
    """Warn of eval rows in train or dev; eval rows of one text, as a search's, are its first texts.

    They are the same as ``alike`` says. ``cut``: whether the development rows are some of train.
    """
    evaluated = [alike.digest(row) for row in _pairs(splits["eval"])]
    asked = set(evaluated)
    alone = splits["eval"].pairs is None
    dev = development.NAME
    places = {"train": ["train", dev] if cut else ["train"]}
    if not cut:
        places[f"{dev}, on which choices are made"] = [dev]
    for place, names in places.items():
        found = itertools.chain.from_iterable(_pairs(splits[name]) for name in names)
        rows = (alike.digest((text, None if alone else other)) for text, other in found)
        seen = asked.intersection(rows)
        both = sum(row in seen for row in evaluated)
        if both:
            verb = "is" if both == 1 else "are"
            warnings.append(
                f"eval: {plural(both, 'row')} {verb} also in {place}, so accuracy is overestimated"
            )


def _pairs(split: Split) -> Iterator[tuple[str, str | None]]:
    if split.pairs is None:
        return ((text, None) for text in split.texts)
    return zip(split.texts, split.pairs, strict=True)
