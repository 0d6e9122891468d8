"""Rankings: nDCG, MRR and recall, of the rows of a query or of what a search finds (``search``).

All measures follow from two counts per relevant document: how many documents of its query score
higher, and how many the same (itself included). Documents with equal scores are taken in random
order, and a measure is its expected value over these orders (McSherry and Najork 2008, "Computing
information retrieval performance measures efficiently in the presence of tied scores"). The order
in a file, which often has the relevant row first, plays no role. Without ties, the numbers are
those of trec_eval: the gain of a document is its relevance. A score that is NaN ranks last. A query
without a relevant document has 0 everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.stage.formulas import Floats, Labels, Score
from pipeline.stage.scoring.means import mean

TOP = 10


class Places(NamedTuple):
    """The relevant documents (relevance above 0) of a number of queries.

    Each of the arrays has one value for a document: ``query`` is an index from 0, ``higher`` the
    number of documents with a higher score, and ``equal`` that with the same score, itself
    included.
    """

    queries: int
    query: Labels
    relevance: Floats
    higher: Labels
    equal: Labels


def by_group(scores: Floats, relevance: Floats, query: Labels, queries: int) -> Places:
    """Return the places of the relevant rows within their groups.

    Args:
        scores: (rows,); NaN ranks last.
        relevance: (rows,).
        query: (rows,), an index below ``queries``.
        queries: the number of queries.
    """
    ranked = np.where(np.isnan(scores), -np.inf, scores)
    order = np.lexsort((-ranked, query))
    group, value, grade = query[order], ranked[order], relevance[order]
    new_group = np.append(True, group[1:] != group[:-1])
    new_value = new_group | np.append(True, value[1:] != value[:-1])
    value_starts = np.flatnonzero(new_value)
    number_of_value = np.cumsum(new_value) - 1
    first_of_group = np.flatnonzero(new_group)[np.cumsum(new_group) - 1]
    first_of_value = value_starts[number_of_value]
    sizes = np.diff(np.append(value_starts, len(order)))
    higher = first_of_value - first_of_group
    equal = sizes[number_of_value]
    relevant = grade > 0
    return Places(queries, group[relevant], grade[relevant], higher[relevant], equal[relevant])


def formula(
    query: Labels, queries: int, measure: Callable[[Places], Floats]
) -> Callable[[Floats, Floats], Score]:
    """Return a score of outputs (rows, 1) and each row's relevance, by weights of queries.

    Args:
        query: each row's query, an index below ``queries``, (rows,).
        queries: the number of queries.
        measure: of each query, e.g. ``ndcg``.
    """

    def score(outputs: Floats, truth: Floats) -> Score:
        places = by_group(outputs[:, 0], truth, query, queries)
        return mean(measure(places))

    return score


def ndcg(places: Places, top: int = TOP) -> Floats:
    """Return each query's normalized discounted cumulative gain of the first ``top``."""
    discounts = 1 / np.log2(np.arange(top) + 2)
    before = np.append(0.0, np.cumsum(discounts))
    first = np.minimum(places.higher, top)
    last = np.minimum(places.higher + places.equal, top)
    discount = (before[last] - before[first]) / places.equal
    gain = np.bincount(places.query, places.relevance * discount, places.queries)
    return _ratio(gain, _ideal_gain(places, top))


def _ideal_gain(places: Places, top: int) -> Floats:
    """Return each query's cumulative gain if its documents stood in the order of relevance."""
    order = np.lexsort((-places.relevance, places.query))
    query, relevance = places.query[order], places.relevance[order]
    rank = np.arange(len(query)) - np.searchsorted(query, query)
    inside = rank < top
    gains = relevance[inside] / np.log2(rank[inside] + 2)
    return np.bincount(query[inside], gains, minlength=places.queries).astype(float)


def _ratio(numerator: NDArray[np.number], denominator: NDArray[np.number]) -> Floats:
    """Return the ratio for each query; 0 where the denominator is not positive."""
    zeros = np.zeros(len(numerator))
    ratio: Floats = np.divide(numerator, denominator, out=zeros, where=denominator > 0)
    return ratio


def recall(places: Places, top: int) -> Floats:
    """Return each query's share of relevant documents among the first ``top``."""
    inside = np.clip(top - places.higher, 0, places.equal) / places.equal
    hits = np.bincount(places.query, inside, places.queries)
    relevant = np.bincount(places.query, minlength=places.queries)
    return _ratio(hits, relevant)


def reciprocal_rank(places: Places, top: int = TOP) -> Floats:
    """Return each query's 1 / rank of the first relevant document, 0 if it is below ``top``."""
    higher = np.full(places.queries, np.iinfo(np.int64).max)
    np.minimum.at(higher, places.query, places.higher)
    best = places.higher == higher[places.query]
    query = places.query[best]
    relevant = np.bincount(query, minlength=places.queries)
    equal = np.ones(places.queries, dtype=np.int64)
    equal[query] = places.equal[best]
    has_relevant = relevant > 0
    place = np.where(has_relevant, higher, 0)
    expected = np.zeros(places.queries)
    none_yet = has_relevant.astype(float)
    for step in range(top):
        # The chance that the first relevant one of the tied documents is at this step.
        chance = np.minimum(_ratio(relevant, equal - step), 1.0)
        rank = place + step + 1
        expected += np.where(rank <= top, none_yet * chance / rank, 0.0)
        none_yet = none_yet * (1 - chance)
    return expected
