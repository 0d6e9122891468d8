"""BM25 scores are those of bm25s, up to its single precision."""

import bm25s
import numpy as np
import pytest

from rarefy.pipeline.data.bag_of_words import words
from rarefy.pipeline.tasks.embeddings.bm25 import BM25

DOCUMENTS = [
    "A cat sat.",
    "The cat, the dog and the cat",
    "",
    "Dogs bark at dogs",
    "naïve Über-café 42",
]
QUERIES = ["the CAT", "dogs dogs bark", "unknown", "", "ÜBER 42"]


@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (0.9, 0.4)])
def test_scores_are_those_of_bm25s(k1, b):
    found = BM25(DOCUMENTS, k1, b).scores(QUERIES)
    assert found.shape == (5, 5)
    peer = bm25s.BM25(method="lucene", k1=k1, b=b)
    peer.index([words(document) for document in DOCUMENTS], show_progress=False)
    for row, query in zip(found, QUERIES, strict=True):
        known = [word for word in words(query) if word in peer.vocab_dict]
        expected = peer.get_scores(known) if known else np.zeros(5)
        assert row == pytest.approx(expected, abs=1e-5)
    assert found[0].argmax() == 1
    assert not found[2:4].any()


@pytest.mark.parametrize(
    ("documents", "query"),
    [(["今天北方有雨", "这部电影很好看"], "好看的电影"), (["किताब अच्छी", "कुतुब अच्छा"], "कुतुब")],
)
def test_words_are_found_in_scripts_without_spaces_and_with_marks(documents, query):
    (first, second) = BM25(documents).scores([query])[0]
    assert first == 0 < second
