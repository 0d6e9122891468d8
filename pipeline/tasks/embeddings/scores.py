"""Sentence embeddings: their cosines."""

from __future__ import annotations

import numpy as np

from rarefy.pipeline.tasks.shared.formulas import Floats


def normalize(embeddings: Floats) -> Floats:
    """Return texts × width with rows of length 1; a row of zeros stays."""
    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit: Floats = np.divide(
        embeddings, length, out=np.zeros_like(embeddings, dtype=float), where=length != 0
    )
    return unit


def cosines(first: Floats, second: Floats) -> Floats:
    """Return the cosine of each pair of rows (pairs × width each); 0 beside a row of zeros."""
    cosines: Floats = np.einsum("nd,nd->n", normalize(first), normalize(second))
    return cosines
