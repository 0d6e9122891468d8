"""A search by embeddings, reduced to what it is scored and compared by.

A **hit table** holds one row for each query: the first ten documents, then for each document that
the query should find how many are nearer and how many as near (itself included; see ``ranking``).
``relevant`` are the documents that each query should find, by place in the corpus.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rarefy.pipeline.tasks.embeddings.bm25 import BM25
from rarefy.pipeline.tasks.embeddings.scores import normalize
from rarefy.pipeline.tasks.shared import ranking
from rarefy.pipeline.tasks.shared.formulas import Floats, Formula, Labels, Score
from rarefy.pipeline.tasks.shared.means import mean, undefined
from rarefy.pipeline.tasks.shared.ranking import TOP, Places

Relevant = Sequence[Sequence[int]]
"""The documents that each query should find."""
DIGITS = 4  # of BM25's scores
NONE = -1
"""Fills rows up: there are fewer documents."""
SAME_AT_LEAST = 0.5
"""The share of the first ten that two models must have in common to agree."""
HELD = 8_000_000  # scores held at once: 32 MB


def truth(
    queries: Sequence[str], documents: Sequence[str], relevant: Relevant
) -> list[dict[str, Any]]:
    """Return for each query the documents that it should find, and BM25's nDCG@10 for it."""
    hits = by_words(queries, documents, relevant)
    ndcg = ranking.ndcg(places(hits)).round(DIGITS).tolist()
    return [
        {"documents": list(of_query), "bm25": value}
        for of_query, value in zip(relevant, ndcg, strict=True)
    ]


def by_words(queries: Sequence[str], documents: Sequence[str], relevant: Relevant) -> Floats:
    """Return the hit table of queries by their words, with BM25."""
    index = BM25(documents)

    def score(chunk: slice) -> NDArray[np.floating[Any]]:
        return index.scores(queries[chunk])

    return by_scores(score, len(documents), relevant)


def distinct(texts: Sequence[str]) -> tuple[Labels, Labels]:
    """Return the first row of each distinct text, and the place of each row's text among them."""
    place: dict[str, int] = {}
    places = [place.setdefault(text, len(place)) for text in texts]
    number = np.array(places, dtype=np.int64)
    _, first = np.unique(number, return_index=True)
    return first, number


def by_cosine(
    queries: Floats, documents: Floats, relevant: Relevant, text: Labels | None = None
) -> Floats:
    """Return the hit table of queries by the cosine of embeddings.

    A query has NaN if its own embedding or that of any document is not finite.

    Args:
        queries: (queries, width).
        documents: one for each distinct text, (texts, width).
        relevant: the documents that each query should find.
        text: the number of each document's text, if several have the same, (documents,).
    """
    if text is None:
        text = np.arange(len(documents))
    near, corpus = _directions(queries), _directions(documents)

    def score(chunk: slice) -> NDArray[np.floating[Any]]:
        # By text, not by document: documents with the same text must be exactly as near.
        cosines: NDArray[np.floating[Any]] = near[chunk] @ corpus.T
        return cosines[:, text]

    hits = by_scores(score, len(text), relevant)
    broken = ~np.isfinite(queries).all(axis=1) | ~np.isfinite(documents).all()
    hits[broken] = np.nan
    return hits


def _directions(embeddings: Floats) -> NDArray[np.float32]:
    """Return embeddings of length 1 in fp32; values that are not finite count as 0."""
    finite = np.where(np.isfinite(embeddings), embeddings, 0)
    return normalize(finite).astype(np.float32)


def neighbours(embeddings: Floats, text: Labels) -> Floats:
    """Return the ten nearest other rows of each row by cosine: (rows, 10), the nearest first.

    Of equally near rows, the earlier ones are taken. -1 where there are fewer other rows; NaN if
    an embedding is not finite.

    Args:
        embeddings: one for each distinct text, (texts, width).
        text: the number of each row's text, (rows,).
    """
    rows = np.arange(len(text))
    if not np.isfinite(embeddings).all():
        return np.full((len(rows), TOP), np.nan)
    near = normalize(embeddings).astype(np.float32)

    def score(chunk: slice) -> NDArray[np.floating[Any]]:
        # By text, not by row: rows with the same text must be exactly as near.
        by_text: NDArray[np.floating[Any]] = near[text[chunk]] @ near.T
        cosines = by_text[:, text]
        numbers = rows[chunk]
        cosines[np.arange(len(numbers)), numbers] = -np.inf
        return cosines

    nearest = by_scores(score, len(rows), [()] * len(rows))
    nearest[nearest == rows[:, None]] = NONE
    return nearest


def by_scores(
    score: Callable[[slice], NDArray[np.floating[Any]]], documents: int, relevant: Relevant
) -> Floats:
    """Return the hit table of queries by the scores of all documents.

    Of equally near documents, the earlier ones are taken among the first ten.

    Args:
        score: maps a slice of queries to scores, (queries, documents).
        documents: the number of documents.
        relevant: the documents that each query should find.

    Returns:
        (queries, 10 + 2 · the most documents that one should find).
    """
    queries, width = len(relevant), max(map(len, relevant), default=0)
    hits = np.full((queries, TOP + 2 * width), float(NONE))
    step = max(1, HELD // max(documents, 1))
    for start in range(0, queries, step):
        scores = score(slice(start, start + step))
        for query, row in enumerate(scores, start):
            first = _first(row)
            hits[query, : len(first)] = first
            for at, document in enumerate(relevant[query]):
                hits[query, TOP + at] = np.sum(row > row[document])
                hits[query, TOP + width + at] = np.sum(row == row[document])
    return hits


def _first(scores: NDArray[np.floating[Any]]) -> Labels:
    """Return the ten best documents, best first."""
    count = min(TOP, len(scores))
    least = np.partition(scores, -count)[-count]
    candidates = np.flatnonzero(scores >= least)
    best: Labels = candidates[np.argsort(-scores[candidates], kind="stable")][:count]
    return best


def places(hits: Floats) -> Places:
    """Return the places of the documents that queries should find; each has relevance 1."""
    width = (hits.shape[1] - TOP) // 2
    higher, equal = hits[:, TOP : TOP + width], hits[:, TOP + width :]
    query, at = np.nonzero(equal > 0)
    return Places(
        len(hits),
        query,
        np.ones(len(query)),
        higher[query, at].astype(np.int64),
        equal[query, at].astype(np.int64),
    )


def first_is_correct(hits: Floats) -> NDArray[np.bool_]:
    """Return for each query whether the first document is one that it should find."""
    shares = ranking.recall(places(hits), 1)
    equal = hits[:, (hits.shape[1] + TOP) // 2 :]
    relevant = (equal > 0).sum(axis=1)
    return np.asarray(shares * relevant > 0.5)  # of several tied ones, less than half are wrong


def overlap(ours: Floats, theirs: Floats) -> Floats:
    """Return for each row the share of the first ten that two models have in common."""
    first, second = _top(ours), _top(theirs)
    in_both = (first[:, :, None] == second[:, None, :]).any(axis=2)
    count = np.isfinite(first).sum(axis=1)
    share: Floats = in_both.sum(axis=1) / np.maximum(count, 1)
    return share


def _top(hits: Floats) -> Floats:
    """Return the first ten of each row, NaN where there are fewer."""
    top = hits[:, :TOP]
    return np.where(top >= 0, top, np.nan)


def formula(measure: Callable[[Places], Floats]) -> Callable[[Floats, object], Score]:
    """Return a score of hit tables by weights of queries; ``measure``: e.g. ``ranking.ndcg``."""

    def score(hits: Floats, _: object) -> Score:
        if not np.isfinite(hits).all():
            return undefined
        return mean(measure(places(hits)))

    return score


SCORES: Final[Mapping[str, Formula]] = {
    "ndcg_10": formula(ranking.ndcg),
    "recall_10": formula(lambda places: ranking.recall(places, TOP)),
    "mrr_10": formula(ranking.reciprocal_rank),
}
