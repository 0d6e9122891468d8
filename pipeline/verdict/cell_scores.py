"""The scores of the cells of a budget: of each label, or on the rows of each value of a column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from rarefy.pipeline.measure.measurements import CANDIDATE, Measurements
from rarefy.pipeline.measure.statistics import labels
from rarefy.pipeline.measure.statistics.intervals import Bootstrap
from rarefy.pipeline.measure.statistics.labels import Ratio
from rarefy.pipeline.tasks.shared.formulas import Floats, Labels
from rarefy.pipeline.tasks.task import LabelTable
from rarefy.pipeline.terms.budget import EVERY, OTHER, Budget, frequent
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.verdict import lookup


class Cell(NamedTuple):
    """A label or slice: its score, alone or compared, and what that rests on.

    ``blocks``: the rows, sentences or groups that count for it. ``score`` is None if there is none,
    as of a label without rows. ``disagreement``: the share of rows that one model alone has right;
    None if the score is not one of counted rows. ``reference``: the score of the reference.
    """

    name: str
    blocks: int
    score: Interval | Bootstrap | None
    disagreement: float | None = None
    reference: float = 0.0


def of_measurements(budget: Budget, measured: Measurements) -> list[Cell]:
    """Return the cells of a budget that has a label or a slice.

    Raises MissingError if the measurements lack what it needs.
    """
    sides = [lookup.answers(measured, CANDIDATE)]
    models = [CANDIDATE]
    if budget.against is not None:
        models.append(lookup.against(budget, measured))
        sides.append(lookup.answers(measured, models[-1]))
    if budget.slice is None:
        return _of_labels(budget, measured, sides)
    return list(_of_slices(budget, measured, models))


def _of_labels(budget: Budget, measured: Measurements, sides: Sequence[Floats]) -> list[Cell]:
    """Return each label; ``sides``: the answers of the candidate, and of the reference if any."""
    presenter = measured.scored_by.presenter
    table = presenter.label_table(sides, measured.truth, measured.labels)
    if table is None or measured.unlabelled:
        name = measured.scored_by.name
        raise lookup.MissingError(f"{name} has no labels for {budget.metric}")
    names = [str(budget.label)]
    if budget.label == EVERY:
        names = presenter.label_names(measured.labels)
    return of_table(budget.metric, table, names, measured.groups)


def of_table(
    metric: str, table: LabelTable, names: Sequence[str], groups: Sequence[int] = ()
) -> list[Cell]:
    """Return the cell of each label.

    Args:
        metric: ``precision``, ``recall`` or ``f1``.
        table: What the candidate gives, and the reference if there is one.
        names: Of the labels.
        groups: The group of each block; empty if each is its own.
    """
    cells = []
    for name in names:
        scores = labels.ratios(metric, table, name, groups)
        cells.append(_of_label(metric, name, scores))
    return cells


def _of_label(metric: str, name: str, scores: Sequence[Ratio]) -> Cell:
    ours, *theirs = scores
    if not theirs:
        return Cell(name, int(np.sum(ours.of > 0)), labels.alone(metric, ours))
    [other] = theirs
    disagreement = None
    if metric == "recall" and ours.is_share and len(ours.of):
        differs = ours.hits != other.hits
        disagreement = float(differs.mean())
    reference = other.hits.sum() / max(other.of.sum(), 1)
    comparison = labels.compare(metric, ours, other)
    return Cell(name, len(ours.of), comparison, disagreement, float(reference))


def _of_slices(budget: Budget, measured: Measurements, models: Sequence[str]) -> Iterator[Cell]:
    """Yield each value of a column; ``models``: the candidate, and the reference if any."""
    task = measured.scored_by
    truth = measured.truth
    if task.scorer.formula(budget.metric, truth) is None:
        formulas = task.scorer.formulas(truth)
        names = ", ".join(formulas)
        raise lookup.MissingError(f"{task.name} has no {budget.metric}; its scores are {names}")
    column, value = budget.column_and_value
    values = measured.columns.get(column)
    if values is None:
        raise lookup.MissingError(f"the measurements have no column {column!r} for a slice")
    for name, blocks in _places(values, value).items():
        if not len(blocks):
            yield Cell(name, 0, None)
            continue
        places = blocks.tolist()
        part = measured.part(places, models)
        yield _of_part(budget.metric, name, part, models)


def _places(values: Sequence[str], value: str) -> dict[str, Labels]:
    """Return name -> places: of one value; or of each with enough rows, and of all others."""
    if value != EVERY:
        return {value: np.flatnonzero(np.asarray(values) == value)}
    common = frequent(Counter(values))
    names = [value if value in common else OTHER for value in values]
    places = {}
    for name in dict.fromkeys(names):
        places[name] = np.flatnonzero(np.asarray(names) == name)
    return places


def _of_part(metric: str, name: str, part: Measurements, models: Sequence[str]) -> Cell:
    ours = part.table(CANDIDATE)
    correct = part.right(CANDIDATE)
    groups = set(part.groups)
    blocks = len(groups) or len(correct)
    if len(models) == 1:
        return Cell(name, blocks, part.score_of(metric, ours))
    other = part.table(models[1])
    disagreement = None
    if metric == "accuracy" and not part.groups:
        differs = correct != part.right(models[1])
        disagreement = float(differs.mean())
    reference = part.score_of(metric, other).value
    comparison = part.compare(metric, ours, other)
    return Cell(name, blocks, comparison, disagreement, reference)
