"""Scores of tagged words against a truth of token classification: entities and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from rarefy.pipeline.tasks.presentation import Marks
from rarefy.pipeline.tasks.shared import formulas
from rarefy.pipeline.tasks.shared.formulas import Formula, Score
from rarefy.pipeline.tasks.token_classification import entities

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TAGS, NAMES = "tags", "names"
"""The keys of a sentence in the truth."""


def _entities(score: Any) -> Formula:
    def formula(answers: formulas.Floats, truth: Sequence[Any]) -> Score:
        names, tags, lengths = read(truth)
        answered = entities.tagged(formulas.answers(answers), names, lengths)
        true = entities.tagged(tags, names, lengths)
        found: Score = score(entities.counts(answered, true, entities.scheme_of(names)))
        return found

    return formula


def _token_accuracy(answers: formulas.Floats, truth: Sequence[Any]) -> Score:
    _, tags, lengths = read(truth)
    return entities.token_accuracy(formulas.answers(answers) == tags, lengths)


def read(truth: Sequence[Any]) -> tuple[list[str], NDArray[np.int64], list[int]]:
    """Return the names of the tags, the true tag of all words, and each sentence's length."""
    import numpy as np

    tags = [row[TAGS] for row in truth]
    flat = np.array([tag for row in tags for tag in row], np.int64)
    return list(truth[0][NAMES]), flat, [len(row) for row in tags]


def floor(truth: Sequence[Any]) -> float | None:
    """Return the entity F1 of the best answer that gives every word the same tag.

    None if all words have one: such rows cannot tell whether anything was learned.
    """
    names, tags, lengths = read(truth)
    if len(set(tags.tolist())) < 2:
        return None
    true = entities.tagged(tags, names, lengths)
    return entities.same_tag_f1(true, names, entities.scheme_of(names))


def marks(tables: Sequence[NDArray[np.float64]], truth: Sequence[Any]) -> Marks:
    """Return the type of each entity that the truth or a model has, once for each of them."""
    import numpy as np

    names, tags, lengths = read(truth)
    scheme = entities.scheme_of(names)
    found = [
        {
            (row, span)
            for row, sentence in enumerate(entities.tagged(given, names, lengths))
            for span in entities.spans(sentence, scheme)
        }
        for given in (tags, *map(formulas.answers, tables))
    ]
    every = sorted(set().union(*found))
    types = sorted({span.type for _, span in every})
    kind = np.array([[span.type == name for name in types] for _, span in every], bool)
    kind = kind.reshape(len(every), len(types))
    true, *given = (kind & np.array([[one in side] for one in every], bool) for side in found)
    return Marks(types, true, given)


SCORES: Final[Mapping[str, Formula]] = {
    "entity_f1": _entities(entities.f1),
    "entity_precision": _entities(entities.precision),
    "entity_recall": _entities(entities.recall),
    "token_accuracy": _token_accuracy,
}
