"""The probe: at which rank a query finds its object among the objects of all facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
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
        self.counts: Counter[tuple[str, int]] = Counter()
        """How many learned facts have a relation and an object."""
        self._place: dict[str, int] = {}
        objects_of: dict[str, set[int]] = {}
        for fact in [*learned, *held_out]:
            place = self._add(fact.object)
            objects_of.setdefault(normalized(fact.query), set()).add(place)
        for fact in learned:
            self.counts[fact.relation, self._add(fact.object)] += 1
        self.asked: dict[str, list[Question]] = {}
        """Learned and held-out facts."""
        for name, facts in (("learned", learned), ("held_out", held_out)):
            questions = []
            for fact in facts[:MOST]:
                place = self._add(fact.object)
                others = objects_of[normalized(fact.query)] - {place}
                questions.append(Question(fact, place, sorted(others)))
            self.asked[name] = questions

    def _add(self, text: str) -> int:
        """Return the place of an object among ``objects``, to which it may be new."""
        place = self._place.setdefault(normalized(text), len(self.objects))
        if place == len(self.objects):
            self.objects.append(text)
        return place

    @property
    def queries(self) -> list[str]:
        """The queries of all questions, each once."""
        questions = [question for asked in self.asked.values() for question in asked]
        return list(dict.fromkeys(question.fact.query for question in questions))

    def by_embeddings(self, name: str, queries: Floats, objects: Floats) -> Places:
        """Return at which places the questions find their objects by cosine.

        Args:
            name: of the questions, a key of ``asked``.
            queries: one embedding for each of ``queries``, (queries, width).
            objects: one for each of ``objects``, (objects, width).
        """
        places = {query: place for place, query in enumerate(self.queries)}
        near, corpus = normalize(queries), normalize(objects)

        def score(question: Question) -> Floats:
            cosines: Floats = corpus @ near[places[question.fact.query]]
            return cosines

        return self._places(name, score)

    def by_frequency(self, name: str) -> Places:
        """Return the places by how many learned facts of the relation have an object.

        That is all that can be known of an object without its subject.
        """
        scores: dict[str, Floats] = {}
        for relation, place in self.counts:
            of_relation = scores.setdefault(relation, np.zeros(len(self.objects)))
            of_relation[place] = self.counts[relation, place]
        none = np.zeros(len(self.objects))

        def score(question: Question) -> Floats:
            return scores.get(question.fact.relation, none)

        return self._places(name, score)

    def _places(self, name: str, score: Callable[[Question], Floats]) -> Places:
        questions = self.asked[name]
        higher = np.zeros(len(questions), np.int64)
        equal = np.zeros(len(questions), np.int64)
        for number, question in enumerate(questions):
            scores = score(question).copy()
            scores[question.others] = -np.inf
            higher[number] = np.sum(scores > scores[question.object])
            equal[number] = np.sum(scores == scores[question.object])
        each = np.arange(len(questions))
        return Places(len(questions), each, np.ones(len(questions)), higher, equal)
