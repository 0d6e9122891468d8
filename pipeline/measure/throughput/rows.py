"""The rows whose throughput is measured, as a job without people waiting would have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rarefy.pipeline.measure.row_lengths import select_rows

if TYPE_CHECKING:
    from rarefy.pipeline.data.split import Split
    from rarefy.pipeline.tasks import Task

MOST = 2_000
"""Rows that a process sorts by their lengths; the next process draws others."""
LISTS = 20
"""Whole lists of candidates that a process times."""


@dataclass(frozen=True)
class Job:
    """The rows of a job.

    ``lists``: of each query, the places of its candidates; empty if rows are no candidates.
    ``corpus``: how many documents are searched; 0 if this is no search.
    """

    texts: Sequence[str]
    pairs: Sequence[str] | None = None
    lists: Sequence[Sequence[int]] = ()
    corpus: int = 0

    def draw(self, seed: Sequence[int], fewest: int) -> dict[str, Any]:
        """Return the rows of a process as the request of a worker has them.

        Args:
            seed: Of the draw.
            fewest: If there are fewer rows, they are repeated: a batch has so many.
        """
        import numpy as np

        random = np.random.default_rng(seed)
        count = min(MOST, len(self.texts))
        drawn = random.choice(len(self.texts), count, replace=False)
        rows = np.resize(drawn, max(count, fewest))
        texts, pairs = select_rows(self.texts, self.pairs, rows)
        lists = []
        order = random.permutation(len(self.lists))
        for place in order[:LISTS]:
            candidates = select_rows(self.texts, self.pairs, self.lists[place])
            lists.append(candidates)
        return {"texts": texts, "pairs": pairs, "lists": lists}


def job_of(task: Task, split: Split) -> Job:
    """Return the rows of a split: of a search, its documents; of queries, also their lists."""
    if split.corpus is not None:
        return Job(list(split.corpus), corpus=len(split.corpus))
    texts, pairs = task.encoder.requests(split)
    lists: list[list[int]] = []
    if task.reader.queries:
        for row, number in enumerate(split.group_numbers):
            if number == len(lists):
                lists.append([])
            lists[number].append(row)
    return Job(texts, pairs, lists)
