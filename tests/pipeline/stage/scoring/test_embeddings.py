"""Similarities are those of scipy and sentence-transformers; neighbours those of a full sort."""

import numpy as np
import pytest
from scipy import stats
from sklearn.neighbors import NearestNeighbors

from pipeline.stage.scoring import embeddings


def texts(seed, count=60, width=8):
    return np.random.default_rng(seed).normal(size=(count, width))


def test_cosines_are_those_of_normalized_rows_and_0_beside_zeros():
    first, second = texts(0), texts(1)
    first[3] = 0
    expected = [
        0 if not x.any() else x @ y / np.sqrt(x @ x) / np.sqrt(y @ y)
        for x, y in zip(first, second, strict=True)
    ]
    assert embeddings.cosines(first, second) == pytest.approx(expected)
    assert np.linalg.norm(embeddings.normalize(first), axis=1) == pytest.approx(
        1.0 * first.any(axis=1)
    )


def test_spearman_is_scipy_s_on_repeated_pairs():
    first, second, truth = texts(0), texts(1), np.round(texts(2, width=1)[:, 0])
    times = np.random.default_rng(3).integers(0, 3, 60)
    cosine = embeddings.cosines(first, second)
    expected = stats.spearmanr(np.repeat(cosine, times), np.repeat(truth, times)).statistic
    found = embeddings.spearman(first, second, truth)(times[None].astype(float))
    assert found == pytest.approx([expected])


@pytest.mark.slow
def test_spearman_is_that_of_sentence_transformers():
    from sentence_transformers.util import pairwise_cos_sim

    first, second, truth = texts(0), texts(1), texts(2, width=1)[:, 0]
    expected = stats.spearmanr(pairwise_cos_sim(first, second).numpy(), truth).statistic
    assert embeddings.spearman(first, second, truth)(np.ones((1, 60))) == pytest.approx([expected])


@pytest.mark.parametrize("held", [1, 150, 10_000])
def test_neighbours_are_those_of_a_full_sort(held, monkeypatch):
    monkeypatch.setattr(embeddings, "_HELD", held)
    found = embeddings.neighbours(texts(4), 5)
    peer = NearestNeighbors(n_neighbors=6, metric="cosine").fit(texts(4))
    expected = peer.kneighbors(return_distance=False, n_neighbors=5)
    assert np.sort(found).tolist() == np.sort(expected).tolist()


def test_equally_near_texts_are_taken_in_their_order():
    same = np.ones((5, 3))
    assert embeddings.neighbours(same, 2).tolist() == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1]]


def test_agreement_is_the_share_of_common_neighbours():
    ours = texts(5)
    assert (embeddings.agreement(ours, ours @ np.eye(8, 12) * 3) == 1).all()
    other = texts(6, width=4)
    both = zip(embeddings.neighbours(ours), embeddings.neighbours(other), strict=True)
    expected = [len(set(one) & set(two)) / 10 for one, two in both]
    assert embeddings.agreement(ours, other) == pytest.approx(expected)


def test_with_few_texts_all_others_are_neighbours():
    assert embeddings.neighbours(texts(7, count=3)).tolist() == [[1, 2], [0, 2], [0, 1]]
    assert (embeddings.agreement(texts(7, count=3), texts(8, count=3)) == 1).all()


def test_embeddings_that_are_nan_agree_with_nothing_but_by_chance():
    broken = texts(9)
    broken[:] = np.nan
    assert embeddings.agreement(texts(9), broken).mean() < 0.4
