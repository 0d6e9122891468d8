"""Scores of tagged words against a truth of token classification: entities and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from rarefy.pipeline.tasks.shared import formulas
from rarefy.pipeline.tasks.shared.formulas import Formula, Score
from rarefy.pipeline.tasks.task import LabelTable
from rarefy.pipeline.tasks.token_classification import entities

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TAGS, NAMES = "tags", "names"
"""The keys of a sentence in the truth."""


def _by_entity(score: Any) -> Formula:
    """Return a score of entities as a formula of predictions (words, tags) and the truth."""

    def formula(predictions: formulas.Floats, truth: Sequence[Any]) -> Score:
        names, tags, lengths = read(truth)
        predicted = entities.tagged(formulas.answers(predictions), names, lengths)
        true = entities.tagged(tags, names, lengths)
        counts = entities.counts(predicted, true, entities.scheme_of(names))
        by_weights: Score = score(counts)
        return by_weights

    return formula


def _token_accuracy(predictions: formulas.Floats, truth: Sequence[Any]) -> Score:
    _, tags, lengths = read(truth)
    return entities.token_accuracy(formulas.answers(predictions) == tags, lengths)


def read(truth: Sequence[Any]) -> tuple[list[str], NDArray[np.int64], list[int]]:
    """Return the names of the tags, the true tag of all words, and each sentence's length."""
    import numpy as np

    tags: list[int] = []
    lengths = []
    for sentence in truth:
        tags += sentence[TAGS]
        lengths.append(len(sentence[TAGS]))
    return list(truth[0][NAMES]), np.array(tags, np.int64), lengths


def floor(truth: Sequence[Any]) -> float | None:
    """Return the entity F1 of the best prediction that gives every word the same tag.

    None if all words have one: such rows cannot tell whether anything was learned.
    """
    names, tags, lengths = read(truth)
    if len(set(tags.tolist())) < 2:
        return None
    true = entities.tagged(tags, names, lengths)
    return entities.same_tag_f1(true, names, entities.scheme_of(names))


def label_table(tables: Sequence[NDArray[np.float64]], truth: Sequence[Any]) -> LabelTable:
    """Return the type of each entity that the truth or a model has, once for each of them.

    ``tables``: the predictions of several models, (words, tags) each.
    """
    import numpy as np

    names, tags, lengths = read(truth)
    scheme = entities.scheme_of(names)
    sides = []
    for indices in (tags, *map(formulas.answers, tables)):
        side: set[tuple[int, entities.Span]] = set()
        for row, sentence in enumerate(entities.tagged(indices, names, lengths)):
            side.update((row, span) for span in entities.spans(sentence, scheme))
        sides.append(side)
    every = sorted(set().union(*sides))
    types = sorted({span.type for _, span in every})
    is_type = np.zeros((len(every), len(types)), bool)
    for at, (_, span) in enumerate(every):
        is_type[at, types.index(span.type)] = True
    tables_of_sides = []
    for side in sides:
        in_side = np.array([[entity in side] for entity in every], bool).reshape(-1, 1)
        tables_of_sides.append(is_type & in_side)
    true, *predicted = tables_of_sides
    blocks = []
    for block, _ in every:
        blocks.append(block)
    sentences = np.array(blocks, np.int64)
    return LabelTable(types, true, predicted, sentences)


SCORES: Final[Mapping[str, Formula]] = {
    "entity_f1": _by_entity(entities.f1),
    "entity_precision": _by_entity(entities.precision),
    "entity_recall": _by_entity(entities.recall),
    "token_accuracy": _token_accuracy,
}
