"""The probe: at which rank a query finds its object among the objects of all facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rarefy.pipeline.tasks.embeddings.scores import normalize
from rarefy.pipeline.tasks.shared.ranking import Places
from rarefy.stages.inject.facts import Fact, normalized

Floats = NDArray[np.floating[Any]]

MOST = 1000
"""The probe asks for at most this many facts of each kind."""


@dataclass(frozen=True)
class Question:
    """A fact to ask for: the places of its object, and of the query's other objects."""

    fact: Fact
    object: int
    others: list[int]


class Probe:
    """Facts to ask for, and the objects of all facts, among which theirs are ranked.

    A query's other objects are left out of its ranking, as in link prediction (Bordes et al. 2013,
    "Translating embeddings for modeling multi-relational data": the filtered ranks).
    """

    def __init__(self, learned: Sequence[Fact], held_out: Sequence[Fact]) -> None:
        self.objects: list[str] = []
        """Distinct by their normalized texts."""
        self.counts: dict[str, Counter[int]] = {}
        """How many learned facts of a relation have an object, by its place."""
        self._place: dict[str, int] = {}
        objects_of: dict[str, set[int]] = {}
        for fact in [*learned, *held_out]:
            query = normalized(fact.query)
            place = self._add(fact.object)
            objects = objects_of.setdefault(query, set())
            objects.add(place)
        for fact in learned:
            of_relation = self.counts.setdefault(fact.relation, Counter())
            place = self._add(fact.object)
            of_relation[place] += 1
        self.questions: dict[str, list[Question]] = {}
        """Learned and held-out facts."""
        for name, facts in (("learned", learned), ("held_out", held_out)):
            self.questions[name] = [self._question(fact, objects_of) for fact in facts[:MOST]]

    def _question(self, fact: Fact, objects_of: Mapping[str, set[int]]) -> Question:
        place = self._add(fact.object)
        true = objects_of[normalized(fact.query)]
        others = sorted(true - {place})
        return Question(fact, place, others)

    def _add(self, text: str) -> int:
        """Return the place of an object among ``objects``, to which it may be new."""
        known = len(self.objects)
        reading = normalized(text)
        place = self._place.setdefault(reading, known)
        if place == known:
            self.objects.append(text)
        return place

    @property
    def queries(self) -> list[str]:
        """The queries of all questions, each once."""
        queries: dict[str, None] = {}
        for questions in self.questions.values():
            for question in questions:
                queries[question.fact.query] = None
        return list(queries)

    def by_embeddings(self, name: str, queries: Floats, objects: Floats) -> Places:
        """Return at which places the questions find their objects by cosine.

        Args:
            name: of the questions, a key of ``asked``.
            queries: one embedding for each of ``queries``, (queries, width).
            objects: one for each of ``objects``, (objects, width).
        """
        rows = {query: row for row, query in enumerate(self.queries)}
        near = normalize(queries)
        corpus = normalize(objects)

        def score(question: Question) -> Floats:
            row = rows[question.fact.query]
            cosines: Floats = corpus @ near[row]
            return cosines

        return self._places(name, score)

    def by_frequency(self, name: str) -> Places:
        """Return the places by how many learned facts of the relation have an object.

        That is all that can be known of an object without its subject.
        """

        def score(question: Question) -> Floats:
            scores = np.zeros(len(self.objects))
            counts = self.counts.get(question.fact.relation, {})
            scores[list(counts)] = list(counts.values())
            return scores

        return self._places(name, score)

    def _places(self, name: str, score: Callable[[Question], Floats]) -> Places:
        questions = self.questions[name]
        count = len(questions)
        higher = np.zeros(count, np.int64)
        equal = np.zeros(count, np.int64)
        for number, question in enumerate(questions):
            scores = score(question).copy()
            scores[question.others] = -np.inf
            own = scores[question.object]
            higher[number] = np.sum(scores > own)
            equal[number] = np.sum(scores == own)
        each = np.arange(count)
        relevance = np.ones(count)
        return Places(count, each, relevance, higher, equal)
