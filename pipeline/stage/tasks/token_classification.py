"""Token classification: a tag for each word, such as entities, addresses and parts of speech."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pipeline.model import words
from pipeline.model.words import CUT_OFF, NO_WORD, Window
from pipeline.stage import formulas
from pipeline.stage.formulas import Formula, Score
from pipeline.stage.scoring import entities
from pipeline.stage.tasks import entity_answers, heads, tagging
from pipeline.stage.tasks.entity_answers import Entities, Tagged
from pipeline.stage.tasks.task import Row, Task
from pipeline.stage.tasks.text_classification import IGNORED, TextClassification
from pipeline.stage.values import is_missing
from pipeline.terms.errors import DataError
from pipeline.terms.vocabulary import Data

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from pipeline.stage.split import Split
    from pipeline.stage.table_file import Source

FIRST = "first"
TAGS, NAMES, SPLITTER = "tags", "names", "splitter"
MOST_SPLIT = 0.1
"""A bundle splits raw text into words and marks if that would split fewer words of its data."""


def _entities(score: Any) -> Formula:
    def formula(answers: formulas.Floats, truth: Sequence[Any]) -> Score:
        names, tags, lengths = _read(truth)
        answered = entities.tagged(formulas.answers(answers), names, lengths)
        true = entities.tagged(tags, names, lengths)
        found: Score = score(entities.counts(answered, true, entities.scheme_of(names)))
        return found

    return formula


def _token_accuracy(answers: formulas.Floats, truth: Sequence[Any]) -> Score:
    _, tags, lengths = _read(truth)
    return entities.token_accuracy(formulas.answers(answers) == tags, lengths)


def _read(truth: Sequence[Any]) -> tuple[list[str], NDArray[np.int64], list[int]]:
    """Return the names of the tags, the true tag of all words, and each sentence's length."""
    import numpy as np

    tags = [row[TAGS] for row in truth]
    flat = np.array([tag for row in tags for tag in row], np.int64)
    return list(truth[0][NAMES]), flat, [len(row) for row in tags]


@dataclass(frozen=True)
class TokenClassification(Task):
    """A unit is a word; ``labels`` are tags, in the order of the model's outputs.

    A text of a split is its words joined by single spaces. The truth is a list of sentences:
    ``{"tags": […]}`` with the index of each word's tag; the first has ``names``, the tags' names.
    ``splitter``: how raw text becomes words; see ``pipeline.model.words``.
    """

    splitter: str = "regex"

    name: ClassVar[str] = "token-classification"
    unit_per_row: ClassVar[bool] = False
    of_words: ClassVar[bool] = True
    no_windows: ClassVar[str | None] = "it reads long texts in windows anyway"
