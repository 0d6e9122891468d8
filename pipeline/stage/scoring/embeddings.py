"""Sentence embeddings: similarity of scored pairs, and agreement of neighbours with the teacher.

Search over a corpus is in ``pipeline/stage/scoring/ranking.py``.
"""

from __future__ import annotations

import numpy as np

from pipeline.stage.formulas import Floats, Labels, Score
from pipeline.stage.scoring import regression

TOP = 10
_HELD = 8_000_000  # similarities held at once: 32 MB


def normalize(embeddings: Floats) -> Floats:
    """Return texts × width with rows of length 1; a row of zeros stays."""
    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    found: Floats = np.divide(
        embeddings, length, out=np.zeros_like(embeddings, dtype=float), where=length != 0
    )
    return found


def cosines(first: Floats, second: Floats) -> Floats:
    """Return the cosine of each pair of rows (pairs × width each); 0 beside a row of zeros."""
    found: Floats = np.einsum("nd,nd->n", normalize(first), normalize(second))
    return found


def spearman(first: Floats, second: Floats, truth: Floats) -> Score:
    """Return Spearman's correlation of cosines with the pairs' scores, by weights of pairs."""
    return regression.spearman(cosines(first, second), truth)


def neighbours(embeddings: Floats, top: int = TOP) -> Labels:
    """Return the ``top`` nearest other texts of each text by cosine: texts × top, unordered.

    With fewer other texts, all of them. Of equally near texts, the earlier ones are taken. Needs
    at least two texts.
    """
    unit = np.nan_to_num(normalize(embeddings)).astype(np.float32)
    texts = len(unit)
    top = min(top, texts - 1)
    found = np.empty((texts, top), dtype=np.int64)
    step = max(1, _HELD // texts)
    for start in range(0, texts, step):
        near = unit[start : start + step] @ unit.T
        rows = np.arange(len(near))
        near[rows, rows + start] = -np.inf
        last = -np.partition(-near, top - 1, axis=1)[:, top - 1 : top]
        better, tied = near > last, near == last
        room = top - better.sum(axis=1, keepdims=True)
        chosen = better | (tied & (np.cumsum(tied, axis=1) <= room))
        found[start : start + step] = np.nonzero(chosen)[1].reshape(len(near), top)
    return found


def agreement(ours: Floats, theirs: Floats, top: int = TOP) -> Floats:
    """Return, per text, the share of its ``top`` neighbours that two models agree on.

    ``ours``, ``theirs``: embeddings of the same texts; the widths may differ.
    """
    pairs = zip(neighbours(ours, top), neighbours(theirs, top), strict=True)
    return np.array([np.isin(one, other).mean() for one, other in pairs])
