"""BM25, the ranking by words that a search by embeddings has to beat.

Lucene's variant (Kamphuis, de Vries, Boytsov and Lin 2020, "Which BM25 do you mean?"), with its
parameters k1 = 1.2 and b = 0.75. Words are those of ``bag_of_words``, without stemming or a list of
stop words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from rarefy.pipeline.data.bag_of_words import words
from rarefy.pipeline.tasks.shared.formulas import Floats

K1 = 1.2
B = 0.75


class BM25:
    """An index of documents. Needs memory for their distinct words, not for documents × words."""

    def __init__(self, documents: Sequence[str], k1: float = K1, b: float = B) -> None:
        from scipy.sparse import csr_array

        counts = [Counter(words(document)) for document in documents]
        self.vocabulary: dict[str, int] = {}
        for count in counts:
            for word in count:
                self.vocabulary.setdefault(word, len(self.vocabulary))
        row = np.repeat(np.arange(len(counts)), [len(count) for count in counts])
        column = np.array([self.vocabulary[word] for count in counts for word in count], np.int64)
        often = np.array([n for count in counts for n in count.values()], dtype=float)
        lengths = np.array([count.total() for count in counts], dtype=float)
        holding = np.bincount(column, minlength=len(self.vocabulary))
        rarity = np.log1p((len(counts) - holding + 0.5) / (holding + 0.5))
        longer = 1 - b + b * lengths / max(lengths.mean(), 1e-12)
        weight = rarity[column] * often / (often + k1 * longer[row])
        shape = (len(counts), len(self.vocabulary))
        self.weights = csr_array((weight, (row, column)), shape=shape)

    def scores(self, queries: Sequence[str]) -> Floats:
        """Return the score of every document for each query: queries × documents.

        A word that stands twice in a query counts twice.
        """
        from scipy.sparse import csr_array

        known = [
            Counter(self.vocabulary[word] for word in words(query) if word in self.vocabulary)
            for query in queries
        ]
        row = np.repeat(np.arange(len(known)), [len(count) for count in known])
        column = np.array([word for count in known for word in count], dtype=np.int64)
        often = np.array([n for count in known for n in count.values()], dtype=float)
        asked = csr_array((often, (row, column)), shape=(len(known), len(self.vocabulary)))
        found: Floats = (asked @ self.weights.T).toarray()
        return found
