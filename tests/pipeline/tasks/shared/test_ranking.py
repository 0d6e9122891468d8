"""Ranking measures are trec_eval's without ties, and means over all orders with ties."""

import itertools

import numpy as np
import pytest
import pytrec_eval
from sklearn.metrics import ndcg_score

from rarefy.pipeline.tasks.shared import ranking


def groups(seed, levels=None):
    """Rows of 30 queries in a random order, with relevance 0 to 2; one query has one row."""
    generator = np.random.default_rng(seed)
    query = generator.permutation(np.append(generator.integers(0, 29, 400), 29))
    relevance = generator.choice([0.0, 0, 0, 1, 2], len(query))
    scores = relevance + generator.normal(0, 1.5, len(query))
    return (np.round(scores * levels) if levels else scores), relevance, query


def trec(scores, relevance, query):
    qrels = {str(q): {} for q in range(30)}
    run = {str(q): {} for q in range(30)}
    for row, q in enumerate(query):
        qrels[str(q)][str(row)] = int(relevance[row])
        run[str(q)][str(row)] = float(scores[row])
    wanted = {"ndcg_cut.10", "ndcg_cut.3", "recall.5", "recip_rank"}
    found = pytrec_eval.RelevanceEvaluator(qrels, wanted).evaluate(run)
    return {name: [found[str(q)][name] for q in range(30)] for name in found["0"]}


@pytest.mark.parametrize("seed", range(5))
def test_measures_are_trec_eval_s(seed):
    scores, relevance, query = groups(seed)
    expected = trec(scores, relevance, query)
    places = ranking.by_group(scores, relevance, query, 30)
    assert ranking.ndcg(places) == pytest.approx(expected["ndcg_cut_10"])
    assert ranking.ndcg(places, 3) == pytest.approx(expected["ndcg_cut_3"])
    assert ranking.recall(places, 5) == pytest.approx(expected["recall_5"])
    assert ranking.reciprocal_rank(places, 400) == pytest.approx(expected["recip_rank"])
    cut = [value if value >= 0.1 else 0 for value in expected["recip_rank"]]
    assert ranking.reciprocal_rank(places) == pytest.approx(cut)


@pytest.mark.parametrize("seed", range(5))
def test_with_ties_ndcg_is_sklearn_s(seed):
    scores, relevance, query = groups(seed, levels=1)
    found = ranking.ndcg(ranking.by_group(scores, relevance, query, 30))
    for q in range(29):
        rows = query == q
        expected = ndcg_score([relevance[rows]], [scores[rows]], k=10)
        assert found[q] == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(6))
def test_with_ties_a_measure_is_its_mean_over_all_orders(seed):
    generator = np.random.default_rng(seed)
    relevance = generator.choice([0.0, 0, 1, 3], 6)
    scores = generator.integers(0, 3, 6).astype(float)
    one = np.zeros(6, dtype=int)

    def measured(values, top):
        places = ranking.by_group(values, relevance, one, 1)
        names = ranking.ndcg, ranking.recall, ranking.reciprocal_rank
        return [name(places, top)[0] for name in names]

    for top in (1, 3, 10):
        orders = [
            measured(scores + 0.1 * np.array(order), top)
            for order in itertools.permutations(range(6))
        ]
        assert measured(scores, top) == pytest.approx(np.mean(orders, axis=0))


def test_the_order_in_the_file_is_worth_nothing():
    constant, one = np.zeros(20), np.zeros(20, dtype=int)
    first, last = np.eye(20)[0], np.eye(20)[19]
    found = [
        [
            measure(ranking.by_group(constant, relevance, one, 1), 10)[0]
            for relevance in (first, last)
        ]
        for measure in (ranking.ndcg, ranking.recall, ranking.reciprocal_rank)
    ]
    for one_order, other in found:
        assert one_order == other
    assert found[1][0] == 0.5
    assert found[2][0] == pytest.approx(sum(1 / rank for rank in range(1, 11)) / 20)


def test_the_formula_is_a_mean_over_queries_by_their_weights():
    scores, relevance, query = groups(0)
    score = ranking.formula(query, 30, ranking.ndcg)(scores[:, None], relevance)
    values = trec(scores, relevance, query)["ndcg_cut_10"]
    weights = np.arange(30.0)
    assert score(weights[None]) == pytest.approx([np.average(values, weights=weights)])


def test_a_query_without_a_relevant_row_or_without_rows_has_0():
    query, relevance = np.array([0, 0, 2]), np.array([0.0, 0, 1])
    places = ranking.by_group(np.arange(3.0), relevance, query, 4)
    for measure in (ranking.ndcg, ranking.recall, ranking.reciprocal_rank):
        assert measure(places, 10).tolist() == [0, 0, 1, 0]


def test_a_score_that_is_nan_ranks_last():
    query, relevance = np.zeros(3, dtype=int), np.array([1.0, 0, 0])
    places = ranking.by_group(np.array([np.nan, -5, 1]), relevance, query, 1)
    assert ranking.reciprocal_rank(places) == pytest.approx([1 / 3])
