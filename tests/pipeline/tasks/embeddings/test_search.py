"""A reduced search has the scores of the whole one."""

from __future__ import annotations

import numpy as np
import pytest

from rarefy.pipeline.tasks.embeddings import scores as embeddings
from rarefy.pipeline.tasks.embeddings import search
from rarefy.pipeline.tasks.shared import ranking

WANTED = [[3], [0, 7], [19], [5, 6, 7]]


def sides(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    documents = draw.normal(size=(40, 6))
    return documents[[3, 0, 19, 5]] + draw.normal(size=(4, 6)), documents


def found(queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
    return search.by_cosine(queries, documents, WANTED)


def test_a_search_by_words_is_bm25s():
    documents = ["a warm film", "a cold film", "a dull story"]
    result = search.by_words(["cold film", "story"], documents, [[1], [0]])
    assert result[:, :3].tolist() == [[1, 0, 2], [2, 0, 1]]
    assert ranking.ndcg(search.places(result))[0] == 1


@pytest.mark.parametrize("held", [1, 80, 10_000])  # one query at a time, two, all
@pytest.mark.parametrize("tied", [False, True])
def test_the_scores_are_those_of_the_ranking_of_all_documents(tied, held, monkeypatch):
    queries, documents = sides()
    if tied:
        documents[10:20] = documents[0:10]
    near, far = (embeddings.normalize(side).astype(np.float32) for side in (queries, documents))
    relevance = np.array([[float(at in wanted) for at in range(40)] for wanted in WANTED])
    query = np.repeat(np.arange(4), 40)
    whole = ranking.by_group((near @ far.T).ravel(), relevance.ravel(), query, 4)
    monkeypatch.setattr(search, "HELD", held)
    reduced = search.places(found(queries, documents))
    for measure in (ranking.ndcg, ranking.reciprocal_rank, lambda p: ranking.recall(p, 10)):
        assert measure(reduced) == pytest.approx(measure(whole))
        score = search.formula(measure)(found(queries, documents), None)
        assert score(np.array([[1.0, 0, 0, 2]]))[0] == pytest.approx(
            (measure(whole)[0] + 2 * measure(whole)[3]) / 3
        )


def test_the_first_ten_are_the_nearest_and_the_earlier_of_equal_ones():
    queries, documents = sides()
    documents[30] = documents[3]
    cosines = embeddings.normalize(queries) @ embeddings.normalize(documents).T
    want = np.argsort(-cosines.round(6), axis=1, kind="stable")[:, :10]
    assert found(queries, documents)[:, :10].tolist() == want.tolist()


def test_a_search_in_fewer_documents_than_ten_is_filled_up():
    queries, documents = sides()
    result = search.by_cosine(queries[:1], documents[:4], [[3]])
    assert sorted(result[0, :10].tolist()) == [-1] * 6 + [0, 1, 2, 3]
    assert search.overlap(result, result).tolist() == [1.0]


def test_right_is_the_query_whose_first_document_is_wanted():
    queries, documents = sides()
    result = found(queries, documents)
    want = [int(result[at, 0]) in WANTED[at] for at in range(4)]
    assert search.first_is_correct(result).tolist() == want
    assert 0 < sum(want) < 4
    assert not search.first_is_correct(found(queries, np.ones_like(documents))).any()


def test_nan_in_a_query_breaks_it_and_nan_in_a_document_breaks_all():
    queries, documents = sides()
    queries[1, 0] = np.nan
    result = found(queries, documents)
    assert np.isnan(result).all(axis=1).tolist() == [False, True, False, False]
    assert np.isnan(search.formula(ranking.ndcg)(result, None)(np.ones((1, 4))))
    documents[5, 2] = np.inf
    assert np.isnan(found(*[queries, documents])).all()


@pytest.mark.parametrize(("width", "count", "queries"), [(64, 50, 3), (384, 33, 1)])
def test_documents_with_the_same_text_are_exactly_as_near(width, count, queries):
    """By document, a matrix product rounds those at the edges of its blocks otherwise."""
    draw = np.random.default_rng(0)
    texts = [str(at % (count // 2)) for at in range(count)]
    first, text = search.distinct(texts)
    assert [texts[at] for at in first] == texts[: count // 2]
    assert [texts[first[at]] for at in text] == texts
    documents = draw.normal(size=(count // 2, width))
    wanted = [list(range(count))] * queries
    result = search.by_cosine(draw.normal(size=(queries, width)), documents, wanted, text)
    same = np.bincount(text)[text]
    assert (result[:, 10 + count :] == same).all()


def test_overlap_counts_common_documents_in_any_order():
    one = np.array([[*range(10), 0, 1.0]])
    other = np.array([[*range(14, 4, -1), 0, 1.0]])
    assert search.overlap(one, one[:, [*range(9, -1, -1), 10, 11]]).tolist() == [1.0]
    assert search.overlap(one, other).tolist() == [0.5]


@pytest.mark.slow
def test_a_search_is_that_of_sentence_transformers():
    from sentence_transformers.evaluation import InformationRetrievalEvaluator
    from sentence_transformers.util import semantic_search

    generator = np.random.default_rng(1)
    documents = generator.normal(size=(500, 16)).astype(np.float32)
    queries = (documents[:40] + generator.normal(0, 1.2, (40, 16))).astype(np.float32)
    relevant = {str(q): {str(q), str(q + 100)} for q in range(40)}
    evaluator = InformationRetrievalEvaluator(
        {str(q): "" for q in range(40)},
        {str(d): "" for d in range(500)},
        relevant,
        mrr_at_k=[10],
        ndcg_at_k=[10],
        precision_recall_at_k=[5],
    )
    hits = [
        [{"corpus_id": str(hit["corpus_id"]), "score": hit["score"]} for hit in found]
        for found in semantic_search(queries, documents, top_k=10)
    ]
    expected = evaluator.compute_metrics(hits)
    wanted = [(query, query + 100) for query in range(40)]
    places = search.places(search.by_cosine(queries, documents, wanted))
    assert ranking.ndcg(places).mean() == pytest.approx(expected["ndcg@k"][10])
    assert ranking.reciprocal_rank(places).mean() == pytest.approx(expected["mrr@k"][10])
    assert ranking.recall(places, 5).mean() == pytest.approx(expected["recall@k"][5])
