"""Text with targets: read, checked, and identified by a digest."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rarefy.pipeline.data import corpus, development_split, repeats
from rarefy.pipeline.data import table as table_file
from rarefy.pipeline.data.split import Split, Texts, row_digest, row_digests
from rarefy.pipeline.data.table import Source, Table, as_text, is_missing, is_unicode
from rarefy.pipeline.sources import references
from rarefy.pipeline.tasks.task import Reader
from rarefy.pipeline.terms import bounds
from rarefy.pipeline.terms.digests import file_sha256, value_sha256
from rarefy.pipeline.terms.errors import DataError
from rarefy.pipeline.terms.recipe_parts import Data
from rarefy.pipeline.terms.wording import plural

FEWEST = 3
"""The fewest eval rows whose scores have a correlation: that of two is 1 or −1."""
SHOWN = 20
"""Labels of a model that an error names."""
READING = 2
"""The version of how files are read: raised when the same ones give other rows or targets."""
VERSION = 10
"""Of the summary: raised when what it says of the same rows changes."""
NO_VALUE = "(none)"
"""The slice of rows without a value in the slice's column; see ``_alone`` for their group."""


@dataclass(frozen=True)
class Summary:
    """Facts about the recipe's data, saved under its digest so that it need not be read again.

    ``warnings`` are sentences for the user, e.g. how many rows were left out and why. ``left_out``:
    the digest of a split's rows that are in its file but left out because of other files.
    ``different``: how many eval rows do not repeat another.
    ``marked``: the eval rows of each label, or entities of each type. ``slices``: column -> value
    -> eval rows.
    """

    labels: list[str]
    rows: dict[str, int]
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    different: int = 0
    marked: dict[str, int] = field(default_factory=dict)
    slices: dict[str, dict[str, int]] = field(default_factory=dict)


def locate(data: Data, base: Path) -> dict[str, Source]:
    """Find the file of every split and hash its bytes.

    Raises DataError if one is missing or cannot be read.
    """
    located = {}
    for name, reference in data.references.items():
        path = references.data_file(reference, base, f"data.{name}")
        try:
            digest = file_sha256(path)
        except OSError as error:
            raise DataError(f"data.{name}: {reference}: {error.strerror} ({path})") from None
        located[name] = Source(name, reference, path, digest)
    train = located["train"]
    if data.eval_share:
        eval_rows = development_split.eval_source(train, data.eval_share, data.group)
        located[eval_rows.name] = eval_rows
    if development_split.NAME not in located:
        located[development_split.NAME] = development_split.source(
            train, data.share, data.group, data.eval_share
        )
    return located


def read_text(data: Data, reader: Reader, reference: str, base: Path) -> Split:
    """Read only the text columns of a file, labelled or not. Raises DataError like ``load``."""
    path = references.data_file(reference, base, "data")
    source = Source("unlabelled", reference, path, file_sha256(path))
    data = data.model_copy(update={"id": None})
    raw = _rows(data, reader, source, [], list)
    return Split(source.name, reference, source.sha256, raw.texts, raw.pairs, None)


def digest(data: Data, splits: dict[str, Source]) -> str:
    """Return one digest over the bytes of all splits and the recipe's settings for reading them."""
    options = reading(data) | {"slices": data.slices}
    files = {name: source.sha256 for name, source in splits.items()}
    return value_sha256({"reading": options, "splits": files})


def reading(data: Data) -> dict[str, Any]:
    """Return the recipe's options for reading rows, apart from where they are, and the versions.

    Train is what the development split leaves of it, also for a stage that reads train alone.
    """
    options: dict[str, Any] = {"version": READING}
    if data.dev_file is None:
        options["dev"] = [data.share, development_split.VERSION]
    if data.eval_share:
        options["eval"] = [data.eval_share, development_split.VERSION]
    if data.labels:
        options["labels"] = data.labels
    if data.negatives:
        options["negatives"] = data.negatives
    if data.id:
        options["id"] = data.id
    if data.long_texts != "cut":
        options["long_texts"] = data.long_texts
    columns = data.model_dump(include={"text", "label", "group", "max_length"}, mode="json")
    return options | columns


def load(
    data: Data,
    reader: Reader,
    located: dict[str, Source],
    order: list[str] | None = None,
    folder: Path | None = None,
) -> tuple[dict[str, Split], Summary]:
    """Read all splits and say what is in them.

    Args:
        data: the recipe's columns and how rows are read.
        reader: reads the texts and the target of a row.
        located: the files of the splits, from ``locate``.
        order: the labels of an existing model in its order; None without one.
        folder: where the texts are kept that are not held in memory; see ``Texts``.

    Returns:
        The splits by name, and the labels, counts and warnings.

    Raises:
        DataError: a column is missing or unsuitable, a split is empty, train teaches nothing,
            another split has a label that train lacks, or a file changed since it was located.
    """
    _check_search(data, reader)
    warnings: list[str] = []
    documents = None
    if corpus.NAME in located:
        documents = corpus.read(located[corpus.NAME])
    cut = data.dev_file is None
    files = dict(located)
    files.pop(corpus.NAME, None)
    if cut:
        del files[development_split.NAME]
    if data.eval_share:
        del files[development_split.EVAL]
    raw = {}
    for name, source in files.items():
        store = list if name == "eval" else partial(Texts, folder)
        raw[name] = _rows(data, reader, source, warnings, store)
    names = order or []
    targets = raw["train"].targets
    if not names and targets is not None:
        names = _labels(data, reader, targets, located["train"])
    if data.labels:
        stated = "data.labels"
        located = {name: replace(source, labels_of=stated) for name, source in located.items()}
    splits, counts = {}, {}
    for name, rows in raw.items():
        splits[name] = _split(reader, located[name], rows, names, warnings)
        if rows.targets is not None:
            counts[name] = reader.count_labels(rows.targets, names)
            absent = [repr(label) for label, count in counts[name].items() if not count]
            if absent:
                warnings.append(f"{name}: no row has the label {', '.join(absent[:3])}")
    if data.eval_share:
        _cut_eval(data, reader, located[development_split.EVAL], splits, names, warnings)
    if documents is not None:
        splits["eval"] = corpus.searching(splits["eval"], documents)
        splits[corpus.NAME] = documents.split()
    if cut:
        _cut_development(data, reader, located[development_split.NAME], splits, names, warnings)
    if reader.queries and data.group:
        _share_grades(splits)
    _check_ids(splits)
    left_out = _leave_out(splits, warnings, singly=reader.singly)
    _warn_overlap(splits, warnings, cut=cut)
    tested = splits["eval"]
    different = len(tested)
    if not (reader.queries and data.group):  # where whole queries count
        different = len(set(tested.text_numbers))
        warnings += repeats.warnings(tested, names)
    if data.group is None:
        file = located["train" if data.eval_share else "eval"]
        used = {*_Columns.of_split(data, reader, "eval").names, *data.slices}
        warnings += repeats.cluster_warnings(tested) + repeats.grouping_columns(file, used)
    sizes = {name: len(split) for name, split in splits.items()}
    marked = reader.count_marked(tested.labels or (), names)
    slices = {}
    for column, values in tested.columns.items():
        slices[column] = dict(Counter(values))
    return splits, Summary(names, sizes, counts, warnings, left_out, different, marked, slices)


def _check_ids(splits: Mapping[str, Split]) -> None:
    """Raise DataError if an id stands for different texts, in one split or in two."""
    texts: dict[str, Hashable] = {}
    for split in splits.values():
        pairs = split.pairs or itertools.repeat(None)
        for identity, text, pair in zip(split.ids or (), split.texts, pairs, strict=False):
            if not identity:
                continue
            row = hash((text, pair))
            if texts.setdefault(identity, row) != row:
                raise DataError(
                    f"{split.reference}: the id {identity!r} stands for two texts; ids by which "
                    "predictions are found must be of one row in all files of the recipe"
                )


def _labels(data: Data, reader: Reader, targets: list[Any], source: Source) -> list[str]:
    """Return the labels of the training rows, in the order of ``data.labels`` if it is given.

    Raises DataError if they teach nothing, or the task has none that could be in an order.
    """
    names = reader.labels(targets, source)
    count = len(names)
    most = bounds.LABELS
    if count > most:
        remedy = "is data.label the right column?"
        problem = f"{count:,} labels, of at most {most:,}; {remedy}"
        message = f"{source.reference}: {problem}"
        raise DataError(message)
    for name in names:
        if not is_unicode(name):
            raise DataError(f"{source.reference}: the label {name!r:.60} is not valid Unicode")
    if not data.labels:
        return names
    if not names:
        raise DataError(f"data.labels: {reader.task.name} has no labels; leave it out")
    return list(data.labels)


def _cut_eval(
    data: Data,
    reader: Reader,
    source: Source,
    splits: dict[str, Split],
    names: list[str],
    warnings: list[str],
) -> None:
    """Move some rows of train to a split ``eval``.

    Args:
        data: has the share of train that is cut off.
        reader: says in which stratum a target is.
        source: the source of the new split.
        splits: gets the new split, and train without its rows.
        names: the labels in order.
        warnings: gets what is wrong with the new split.

    Raises:
        DataError: the rows cannot be divided, or there are too few of them for scores.
    """
    train = splits["train"]
    strata = [reader.stratum(target) for target in train.labels or ()]
    rest, rows = development_split.cut(train, strata, data.eval_share, source)
    if rest is train:
        raise DataError(f"data.eval: {development_split.why_none(train)}; give a file")
    _check_count(reader, source, rows.texts, rows.groups, has_targets=rows.labels is not None)
    warning = development_split.warning(train, rows, data.eval_share)
    if warning:
        warnings.append(warning)
    if rows.groups is not None and rows.labels is not None:
        warnings += reader.check_groups(rows.labels, rows.groups, source)
    pairs = rows.pairs and list(rows.pairs)
    splits["eval"] = replace(rows, texts=list(rows.texts), pairs=pairs, negatives=None)
    splits["train"] = replace(rest, columns={})
    _warn_of_lost(strata, splits, source.name, names, warnings)
    classes = set(strata) - {None}
    unseen = classes.difference(rows.labels or ()) if classes else classes
    if unseen:
        labels = _quoted(names, unseen)
        warnings.append(f"eval: no row has the label {labels}; give a file, or a larger share")


def _cut_development(
    data: Data,
    reader: Reader,
    dev: Source,
    splits: dict[str, Split],
    names: list[str],
    warnings: list[str],
) -> None:
    """Move some rows of train to a split ``dev``, and warn if they are not what was asked for.

    Args:
        data: has the share of train that is cut off.
        reader: says in which stratum a target is.
        dev: the source of the new split.
        splits: gets the new split, and train without its rows.
        names: the labels in order.
        warnings: gets what is wrong with the new split.
    """
    train = splits["train"]
    strata = [reader.stratum(target) for target in train.labels or ()]
    splits["train"], splits[dev.name] = development_split.cut(train, strata, data.share, dev)
    warning = development_split.warning(train, splits[dev.name], data.share)
    if warning:
        warnings.append(warning)
    _warn_of_lost(strata, splits, dev.name, names, warnings)


def _warn_of_lost(
    strata: Sequence[Hashable],
    splits: Mapping[str, Split],
    cut_off: str,
    names: Sequence[str],
    warnings: list[str],
) -> None:
    """Warn if train has no row of a label left.

    Args:
        strata: of the rows before the cut.
        splits: after it.
        cut_off: the name of the split that got the rows.
        names: the labels in order.
        warnings: gets the sentence.
    """
    classes = set(strata) - {None}
    if not classes:
        return
    lost = classes.difference(splits["train"].labels or ())
    if lost:
        kind = "development" if cut_off == development_split.NAME else cut_off
        warnings.append(
            f"train: all rows with the label {_quoted(names, lost)} became {kind} rows with "
            f"their groups; give data.{cut_off}"
        )


def _quoted(names: Sequence[str], labels: Collection[Hashable]) -> str:
    return ", ".join(repr(name) for label, name in enumerate(names) if label in labels)


def evaluated(
    data: Data,
    reader: Reader,
    located: dict[str, Source],
    labels: list[str],
    warnings: list[str],
) -> Split:
    """Read only the eval split, for a model that exists; nothing of train is opened.

    Args:
        data: the recipe's columns and how rows are read.
        reader: reads the texts and the target of a row.
        located: the files of the splits, from ``locate``.
        labels: those of the model, in its order.
        warnings: gets the warnings about the rows.

    Raises:
        DataError: as ``load`` does, and for a label that the model does not have.
    """
    if data.eval_share:
        return load(data, reader, located, labels or None)[0]["eval"]
    _check_search(data, reader)
    data = data.model_copy(update={"id": None})
    shown = ", ".join(labels[:SHOWN])
    if len(labels) > SHOWN:
        shown += ", …"
    source = replace(located["eval"], labels_of=f"the model's labels ({shown})")
    split = _split(reader, source, _rows(data, reader, source, warnings, list), labels, warnings)
    if not (reader.queries and data.group):
        warnings += repeats.warnings(split, labels)
    if corpus.NAME not in located:
        return split
    return corpus.searching(split, corpus.read(located[corpus.NAME]))


def _check_search(data: Data, reader: Reader) -> None:
    if data.search_option and not reader.searches:
        raise DataError(f"data.{data.search_option}: not used by {reader.task.name}; remove it")
    if data.corpus and data.eval_share:
        raise DataError("data.eval: a share of train cannot search a corpus; give a file")


@dataclass
class _Raw:
    texts: Sequence[str]
    pairs: Sequence[str] | None
    targets: list[Any] | None
    columns: dict[str, list[str]]
    groups: list[str] | None
    negatives: list[tuple[str, ...]] | None
    ids: list[str] | None


def _split(
    reader: Reader, source: Source, rows: _Raw, names: list[str], warnings: list[str]
) -> Split:
    """Return rows as a split, their targets as numbers: places in ``names`` if they are labels.

    Raises DataError if the eval split has too few rows for the task's scores.
    """
    if source.name == "eval":
        _check_count(reader, source, rows.texts, rows.groups, has_targets=rows.targets is not None)
    labels = None
    if rows.targets is not None:
        labels = reader.index_targets(rows.targets, names, source)
        if rows.groups is not None:
            warnings += reader.check_groups(labels, rows.groups, source)
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
        ids=rows.ids,
    )


def _check_count(
    reader: Reader,
    source: Source,
    texts: Sequence[str],
    groups: Sequence[str] | None,
    *,
    has_targets: bool,
) -> None:
    """Raise DataError if the eval split has too few rows for the task's scores."""
    count = len(texts)
    fault = f"{source.reference}: eval has {plural(count, 'row')}"
    if count < reader.fewest:
        raise DataError(f"{fault}; {reader.task.name} of such rows needs at least {reader.fewest}")
    if count >= FEWEST or not reader.correlates or not has_targets:
        return
    ranked = reader.queries and groups is not None
    if not ranked:
        raise DataError(f"{fault}; a correlation of fewer than {FEWEST} has no meaning")


class _Values(NamedTuple):
    """The values of a row; ``group``, ``negatives`` and ``id`` are None without such columns."""

    texts: tuple[Any, ...]
    targets: tuple[Any, ...]
    slices: tuple[Any, ...]
    group: Any
    negatives: Any
    id: Any


@dataclass(frozen=True)
class _Columns:
    """The columns of a split's file that are read."""

    texts: tuple[str, ...]
    targets: tuple[str, ...]
    slices: tuple[str, ...]
    group: str | None
    negatives: str | None
    id: str | None

    @classmethod
    def of_split(cls, data: Data, reader: Reader, split: str) -> _Columns:
        """Return the columns that a split needs; unlabelled rows have texts alone."""
        texts = tuple(data.text_columns)
        if split == "unlabelled":
            return cls(texts, (), (), None, None, data.id)
        targets = tuple(reader.target_columns(data))
        measured = "train" if data.eval_share else "eval"
        slices = tuple(data.slices) if split == measured else ()
        negatives = data.negatives if split in ("train", "dev") else None
        return cls(texts, targets, slices, data.group, negatives, data.id)

    @property
    def names(self) -> list[str]:
        """All columns in the order in which a row has their values."""
        last = filter(None, (self.group, self.negatives, self.id))
        return [*self.texts, *self.targets, *self.slices, *last]

    def values(self, row: tuple[Any, ...]) -> _Values:
        """Return a row of the columns ``names`` by what they are for."""
        ahead = iter(row)
        texts = tuple(itertools.islice(ahead, len(self.texts)))
        targets = tuple(itertools.islice(ahead, len(self.targets)))
        slices = tuple(itertools.islice(ahead, len(self.slices)))
        group = next(ahead) if self.group else None
        negatives = next(ahead) if self.negatives else None
        identity = next(ahead) if self.id else None
        return _Values(texts, targets, slices, group, negatives, identity)

    def check(self, table: Table, source: Source) -> None:
        """Raise DataError if the file lacks one of them."""
        missing = [column for column in self.names if column not in table.names]
        if not missing:
            return
        column, hint = missing[0], ""
        if column.lower() == "none" and column in self.targets:
            hint = "; for rows without labels, write label: null"
        names = ", ".join(table.names) or "none"
        raise DataError(f"{source.reference}: no column {column!r}; the file has {names}{hint}")


def _rows(
    data: Data,
    reader: Reader,
    source: Source,
    warnings: list[str],
    store: Callable[[], Any],
) -> _Raw:
    """Read the usable rows of a split.

    Args:
        data: the columns of the recipe.
        reader: reads the texts and the target of a row.
        source: the file.
        warnings: gets how many rows were left out, and why.
        store: makes what holds a column of texts: a list, ``Texts``.

    Raises DataError if a column is missing, a row is wrong, or none is usable.
    """
    columns = _Columns.of_split(data, reader, source.name)
    source = replace(source, targets=columns.targets)
    texts = [store() for _ in columns.texts]
    targets: list[Any] = []
    slices: list[list[str]] = [[] for _ in columns.slices]
    groups: list[str] = []
    negatives: list[tuple[str, ...]] = []
    ids: list[str] = []
    left_out: Counter[str] = Counter()
    seen: dict[str, str] = {}

    def shared(text: str) -> str:
        """Return the first of equal texts, so that many rows hold one object."""
        return seen.setdefault(text, text)

    with table_file.opened(source) as table:
        columns.check(table, source)
        for column in columns.targets:
            reader.check_column(_once(table, column), column, source)
        for number, row in enumerate(table.rows(columns.names), 1):
            values = columns.values(row)
            read = reader.read_row(values.texts, values.targets, source, number)
            if isinstance(read, str):
                left_out[read] += 1
                continue
            row_texts, target = read
            for column_texts, text in zip(texts, row_texts, strict=True):
                column_texts.append(text)
            targets.append(shared(target) if isinstance(target, str) else target)
            if columns.negatives:
                wrong = corpus.negatives(values.negatives, columns.negatives, source, number)
                negatives.append(wrong)
            if columns.id:
                identity = ""
                if not is_missing(values.id):
                    identity = as_text(values.id)
                ids.append(identity if is_unicode(identity) else "")
            for column_values, value in zip(slices, values.slices, strict=True):
                text = NO_VALUE if is_missing(value) else as_text(value)
                column_values.append(shared(text))
            if columns.group:
                absent = is_missing(values.group)
                if absent and reader.queries:
                    raise DataError(
                        f"{source.reference}: row {number} has no value in {columns.group!r}, "
                        "whose rows with the same value are one query"
                    )
                group = _alone(row_texts) if absent else as_text(values.group)
                groups.append(shared(group))
    reasons = [f"{plural(count, 'row')} {reason}" for reason, count in left_out.items()]
    if not len(texts[0]):
        why = f": {', '.join(reasons)}" if reasons else ""
        raise DataError(f"{source.reference}: the {source.name} split has no usable rows{why}")
    warnings += [f"{source.name}: {reason} left out" for reason in reasons]
    return _Raw(
        texts=texts[0],
        pairs=texts[1] if len(texts) == 2 else None,
        targets=targets if columns.targets else None,
        columns=dict(zip(columns.slices, slices, strict=True)),
        groups=groups if columns.group else None,
        negatives=negatives if columns.negatives else None,
        ids=ids if columns.id else None,
    )


def _alone(texts: Sequence[str]) -> str:
    """Return the group of a row without a value in the group's column: its own.

    Rows of the same texts share it, so that they are not on both sides of a cut. All such rows in
    one group would be cut off together, or never.
    """
    return f"{NO_VALUE} {row_digest(texts).hex()}"


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
    train, dev = splits["train"], splits.get(development_split.NAME)
    if dev is None or not dev.labels or not train.labels:
        return
    splits[dev.name] = replace(dev, greatest=train.greatest_label)


def _leave_out(splits: dict[str, Split], warnings: list[str], *, singly: bool) -> dict[str, str]:
    """Leave out unlabelled rows that stand in dev or eval: a student would learn answers to them.

    Return the digest of what was left out, by split. With ``singly``, for models that read each
    text of a pair alone, one text in common is enough. Raises DataError if none is left.
    """
    unlabelled = splits.get("unlabelled")
    if unlabelled is None:
        return {}
    held_out = set[bytes]()
    for name in ("dev", "eval"):
        if name in splits:
            for texts in _pairs(splits[name]):
                held_out.update(row_digests(texts, singly=singly))
    left_out, retained = list[int](), list[int]()
    for row, texts in enumerate(_pairs(unlabelled)):
        is_new = held_out.isdisjoint(row_digests(texts, singly=singly))
        (retained if is_new else left_out).append(row)
    if not retained:
        raise DataError(f"{unlabelled.reference}: all unlabelled rows occur in dev or eval as well")
    if not left_out:
        return {}
    verb = "occurs in dev or eval and is" if len(left_out) == 1 else "occur in dev or eval and are"
    warnings.append(f"unlabelled: {plural(len(left_out), 'row')} {verb} left out")
    splits["unlabelled"] = development_split.picked(
        unlabelled, retained, unlabelled.name, unlabelled.sha256
    )
    return {"unlabelled": value_sha256(left_out)}


def _warn_overlap(splits: dict[str, Split], warnings: list[str], *, cut: bool) -> None:
    """Warn of eval rows in train or dev; eval rows of one text, as a search's, are its first texts.

    They are the same as ``alike`` says. ``cut``: whether the development rows are some of train.
    """
    evaluated = [row_digest(texts) for texts in _pairs(splits["eval"])]
    distinct = set(evaluated)
    first_text_alone = splits["eval"].pairs is None
    dev = development_split.NAME
    places = {"train": ["train", dev]}
    if not cut:
        places = {"train": ["train"], f"{dev}, on which choices are made": [dev]}
    for place, names in places.items():
        seen = set[bytes]()  # of eval alone: train may have a million rows
        for name in names:
            rows = _pairs(splits[name])
            if first_text_alone:
                rows = ((text, None) for text, _ in rows)
            seen |= distinct.intersection(map(row_digest, rows))
        both = sum(row in seen for row in evaluated)
        if both:
            verb = "is" if both == 1 else "are"
            warnings.append(
                f"eval: {plural(both, 'row')} {verb} also in {place}, so accuracy is overestimated"
            )


def _pairs(split: Split) -> Iterator[tuple[str, str | None]]:
    """Yield the texts of each row; None for the second if rows have one text."""
    if split.pairs is None:
        return ((text, None) for text in split.texts)
    return zip(split.texts, split.pairs, strict=True)
