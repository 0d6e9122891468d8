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

from rarefy.pipeline.tasks.shared.formulas import Floats, Labels, Score
from rarefy.pipeline.tasks.shared.means import mean

TOP = 10


class Places(NamedTuple):
    """The relevant documents (relevance above 0) of a number of queries.

    ``query``: an index from 0; ``higher``: number of documents with a higher score; ``equal``:
    number with the same score, itself included.
    """

    queries: int
    query: Labels
    relevance: Floats
    higher: Labels
    equal: Labels


def by_group(scores: Floats, relevance: Floats, query: Labels, queries: int) -> Places:
    """Return the places of the relevant rows within their groups.

    ``scores``, ``relevance``, ``query``: one per row, the query as an index below ``queries``.
    """
    ranked = np.where(np.isnan(scores), -np.inf, scores)
    order = np.lexsort((-ranked, query))
    group, value = query[order], ranked[order]
    at = np.arange(len(order))
    new_group = np.append(True, group[1:] != group[:-1])
    new_value = new_group | np.append(True, value[1:] != value[:-1])
    first_of_group = at[new_group][np.cumsum(new_group) - 1]
    first_of_value = at[new_value][np.cumsum(new_value) - 1]
    sizes = np.diff(np.append(at[new_value], len(order)))[np.cumsum(new_value) - 1]
    kept = relevance[order] > 0
    return Places(
        queries,
        group[kept],
        relevance[order][kept],
        (first_of_value - first_of_group)[kept],
        sizes[kept],
    )


def formula(
    query: Labels, queries: int, measure: Callable[[Places], Floats]
) -> Callable[[Floats, Floats], Score]:
    """Return a score of outputs (rows × 1) and each row's relevance, by weights of queries.

    ``query``: each row's query, an index below ``queries``; ``measure``: e.g. ``ndcg``.
    """

    def scored(outputs: Floats, truth: Floats) -> Score:
        return mean(measure(by_group(outputs[:, 0], truth, query, queries)))

    return scored


def ndcg(places: Places, top: int = TOP) -> Floats:
    """Return each query's normalized discounted cumulative gain of the first ``top``."""
    before = np.append(0.0, np.cumsum(1 / np.log2(np.arange(top) + 2)))
    first, last = (np.minimum(end, top) for end in (places.higher, places.higher + places.equal))
    discount = (before[last] - before[first]) / places.equal
    gain = np.bincount(places.query, places.relevance * discount, places.queries)
    order = np.lexsort((-places.relevance, places.query))
    query, relevance = places.query[order], places.relevance[order]
    rank = np.arange(len(query)) - np.searchsorted(query, query)
    kept = rank < top
    ideal = np.bincount(
        query[kept], relevance[kept] / np.log2(rank[kept] + 2), minlength=places.queries
    )
    found: Floats = np.divide(gain, ideal, out=np.zeros(places.queries), where=ideal > 0)
    return found


def recall(places: Places, top: int) -> Floats:
    """Return each query's share of relevant documents among the first ``top``."""
    inside = np.clip(top - places.higher, 0, places.equal) / places.equal
    found = np.bincount(places.query, inside, places.queries)
    relevant = np.bincount(places.query, minlength=places.queries)
    share: Floats = np.divide(found, relevant, out=np.zeros(places.queries), where=relevant > 0)
    return share


def reciprocal_rank(places: Places, top: int = TOP) -> Floats:
    """Return each query's 1 / rank of the first relevant document, 0 if it is below ``top``."""
    higher = np.full(places.queries, np.iinfo(np.int64).max)
    np.minimum.at(higher, places.query, places.higher)
    best = places.higher == higher[places.query]
    relevant = np.bincount(places.query[best], minlength=places.queries)
    equal = np.ones(places.queries, dtype=np.int64)
    equal[places.query[best]] = places.equal[best]
    mean, none_yet = np.zeros(places.queries), (relevant > 0).astype(float)
    for step in range(top):  # the first relevant of the tied ones is at place higher + step
        left = equal - step
        here = np.divide(relevant, left, out=np.zeros(places.queries), where=left > 0)
        rank = np.where(relevant > 0, higher, 0) + step + 1
        mean += np.where(rank <= top, none_yet * np.minimum(here, 1.0) / rank, 0.0)
        none_yet = none_yet * (1 - np.minimum(here, 1.0))
    return mean
