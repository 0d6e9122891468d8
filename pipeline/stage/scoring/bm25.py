"""BM25, the ranking by words that a search by embeddings has to beat.

Lucene's variant (Kamphuis, de Vries, Boytsov and Lin 2020, "Which BM25 do you mean?"), with its
parameters k1 = 1.2 and b = 0.75. Words are those of ``bag_of_words``, without stemming or a list of
stop words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.stage.bag_of_words import words
from pipeline.stage.formulas import Floats

K1 = 1.2
B = 0.75


class BM25:
    """An index of documents. Needs memory for their distinct words, not for documents × words."""

    def __init__(self, documents: Sequence[str], k1: float = K1, b: float = B) -> None:
        """Index documents.

        Args:
            documents: texts.
            k1: how fast repeated words stop to count.
            b: how much a document's length counts, from 0 to 1.
        """
        counts = [Counter(words(document)) for document in documents]
        self.vocabulary: dict[str, int] = {}
        for count in counts:
            for word in count:
                self.vocabulary.setdefault(word, len(self.vocabulary))
        table = self._table(counts)
        lengths = np.array([count.total() for count in counts], dtype=float)
        holding = np.bincount(table.indices, minlength=len(self.vocabulary))
        rarity = np.log1p((len(counts) - holding + 0.5) / (holding + 0.5))
        mean_length = max(lengths.mean(), 1e-12)
        length_factor = 1 - b + b * lengths / mean_length
        rows = np.repeat(np.arange(len(counts)), np.diff(table.indptr))
        saturation = table.data + k1 * length_factor[rows]
        table.data = rarity[table.indices] * table.data / saturation
        self.weights = table

    def scores(self, queries: Sequence[str]) -> Floats:
        """Return the score of every document for each query: (queries, documents).

        A word that stands twice in a query counts twice.
        """
        counts = []
        for query in queries:
            counts.append(Counter(word for word in words(query) if word in self.vocabulary))
        table: Floats = (self._table(counts) @ self.weights.T).toarray()
        return table

    def _table(self, counts: Sequence[Counter[str]]) -> Any:
        """Return how often each word of the vocabulary is in each text: sparse, (texts, words)."""
        from scipy.sparse import csr_array

        ends = np.cumsum([0, *map(len, counts)])
        columns: list[int] = []
        frequencies: list[int] = []
        for count in counts:
            columns += [self.vocabulary[word] for word in count]
            frequencies += count.values()
        values = np.array(frequencies, dtype=float)
        shape = (len(counts), len(self.vocabulary))
        table = csr_array((values, np.array(columns, dtype=np.int64), ends), shape=shape)
        table.sort_indices()
        return table
