"""Cosines of embeddings."""

import numpy as np
import pytest

from rarefy.pipeline.tasks.embeddings import scores as embeddings


def texts(seed):
    return np.random.default_rng(seed).normal(size=(60, 8))


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
