"""A search by embeddings, reduced to what it is scored and compared by.

``found`` holds one row for each query: the first ten documents, then for each document that the
query should find how many are nearer and how many as near (itself included; see ``ranking``).
``wanted`` are those documents, by place in the corpus.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.stage.formulas import Floats, Formula, Labels, Score
from pipeline.stage.scoring import ranking
from pipeline.stage.scoring.bm25 import BM25
from pipeline.stage.scoring.embeddings import normalize
from pipeline.stage.scoring.means import mean, undefined
from pipeline.stage.scoring.ranking import TOP, Places

Wanted = Sequence[Sequence[int]]
"""The documents that each query should find."""
DIGITS = 4  # of BM25's scores
NONE = -1
"""Fills rows up: there are fewer documents."""
SAME_AT_LEAST = 0.5
"""The share of the first ten that two models must have in common to agree."""
HELD = 8_000_000  # scores held at once: 32 MB


def truth(queries: Sequence[str], documents: Sequence[str], wanted: Wanted) -> list[dict[str, Any]]:
    """Return for each query the documents that it should find, and BM25's nDCG@10 for it."""
    plain = ranking.ndcg(places(by_words(queries, documents, wanted))).round(DIGITS)
    return [
        {"documents": list(places_of), "bm25": value}
        for places_of, value in zip(wanted, plain.tolist(), strict=True)
    ]


def by_words(queries: Sequence[str], documents: Sequence[str], wanted: Wanted) -> Floats:
    """Return what each query finds by its words, with BM25."""
    index = BM25(documents)
    return by_scores(lambda chunk: index.scores(queries[chunk]), len(documents), wanted)


def distinct(texts: Sequence[str]) -> tuple[Labels, Labels]:
    """Return the first row of each distinct text, and the place of each row's text among them."""
    place: dict[str, int] = {}
    text = np.array([place.setdefault(text, len(place)) for text in texts], dtype=np.int64)
    return np.unique(text, return_index=True)[1], text


def by_cosine(
    queries: Floats, documents: Floats, wanted: Wanted, text: Labels | None = None
) -> Floats:
    """Return what each query finds by the cosine of embeddings (one a row).

    ``documents``: one for each distinct text; ``text``: each document's, if several have the same.
    A query has NaN if its own embedding or that of any document is not finite.
    """
    each = np.arange(len(documents)) if text is None else text
    finite = (np.where(np.isfinite(side), side, 0) for side in (queries, documents))
    near, corpus = (normalize(side).astype(np.float32) for side in finite)
    # By text, not by document: documents with the same text must be exactly as near.
    found = by_scores(lambda chunk: (near[chunk] @ corpus.T)[:, each], len(each), wanted)
    broken = ~np.isfinite(queries).all(axis=1) | ~np.isfinite(documents).all()
    found[broken] = np.nan
    return found


def neighbours(embeddings: Floats, text: Labels) -> Floats:
    """Return the ten nearest other rows of each row by cosine: rows × 10, the nearest first.

    ``embeddings``: one for each distinct text; ``text``: each row's. Of equally near rows, the
    earlier ones are taken. -1 where there are fewer other rows; NaN if an embedding is not finite.
    """
    rows = np.arange(len(text))
    if not np.isfinite(embeddings).all():
        return np.full((len(rows), TOP), np.nan)
    near = normalize(embeddings).astype(np.float32)

    def score(chunk: slice) -> NDArray[np.floating[Any]]:
        # By text, not by row: rows with the same text must be exactly as near.
        found = (near[text[chunk]] @ near.T)[:, text]
        own = rows[chunk]
        found[np.arange(len(own)), own] = -np.inf
        return found

    found = by_scores(score, len(rows), [()] * len(rows))
    found[found == rows[:, None]] = NONE
    return found


def by_scores(
    score: Callable[[slice], NDArray[np.floating[Any]]], documents: int, wanted: Wanted
) -> Floats:
    """Return what each query finds: queries × (10 + 2 · the most documents that one should find).

    ``score``: maps a slice of queries to queries × documents.
    Of equally near documents, the earlier ones are taken among the first ten.
    """
    queries, width = len(wanted), max(map(len, wanted), default=0)
    found = np.full((queries, TOP + 2 * width), float(NONE))
    step = max(1, HELD // max(documents, 1))
    for start in range(0, queries, step):
        scores = score(slice(start, start + step))
        for query, row in enumerate(scores, start):
            first = _first(row)
            found[query, : len(first)] = first
            for at, document in enumerate(wanted[query]):
                found[query, TOP + at] = np.sum(row > row[document])
                found[query, TOP + width + at] = np.sum(row == row[document])
    return found


def _first(scores: NDArray[np.floating[Any]]) -> Labels:
    """Return the ten best documents, best first."""
    count = min(TOP, len(scores))
    least = np.partition(scores, -count)[-count]
    candidates = np.flatnonzero(scores >= least)
    best: Labels = candidates[np.argsort(-scores[candidates], kind="stable")][:count]
    return best


def places(found: Floats) -> Places:
    """Return the places of the documents that queries should find; each has relevance 1."""
    width = (found.shape[1] - TOP) // 2
    higher, equal = found[:, TOP : TOP + width], found[:, TOP + width :]
    query, at = np.nonzero(equal > 0)
    one = np.ones(len(query))
    whole = (side[query, at].astype(np.int64) for side in (higher, equal))
    return Places(len(found), query, one, *whole)


def first_is_right(found: Floats) -> NDArray[np.bool_]:
    """Return for each query whether the first document is one that it should find."""
    shares = ranking.recall(places(found), 1)
    wanted = (found[:, (found.shape[1] + TOP) // 2 :] > 0).sum(axis=1)
    return np.asarray(shares * wanted > 0.5)  # of several tied ones, less than half are wrong


def overlap(ours: Floats, theirs: Floats) -> Floats:
    """Return for each row the share of the first ten that two models have in common."""
    first, second = (np.where(side[:, :TOP] >= 0, side[:, :TOP], np.nan) for side in (ours, theirs))
    both = (first[:, :, None] == second[:, None, :]).any(axis=2).sum(axis=1)
    share: Floats = both / np.maximum(np.isfinite(first).sum(axis=1), 1)
    return share


def formula(measure: Callable[[Places], Floats]) -> Callable[[Floats, object], Score]:
    """Return a score of ``found`` by weights of queries; ``measure``: e.g. ``ranking.ndcg``."""

    def scored(found: Floats, _: object) -> Score:
        if not np.isfinite(found).all():
            return undefined
        return mean(measure(places(found)))

    return scored


SCORES: Final[Mapping[str, Formula]] = {
    "ndcg_10": formula(ranking.ndcg),
    "recall_10": formula(lambda places: ranking.recall(places, TOP)),
    "mrr_10": formula(ranking.reciprocal_rank),
}
