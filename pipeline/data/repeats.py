"""Eval rows that repeat others: an interval must not count one answer a hundred times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.terms.wording import plural


def numbered(keys: Iterable[Hashable]) -> list[int]:
    """Return a number for each key, from 0 in their order; equal keys have the same."""
    numbers: dict[Hashable, int] = {}
    result = []
    for key in keys:
        following = len(numbers)
        number = numbers.setdefault(key, following)
        result.append(number)
    return result


def clusters(groups: Sequence[int], texts: Sequence[int]) -> list[int]:
    """Return the cluster of each row: its group, or that of all rows with its text.

    A text of several groups is a cluster of its own: the same text gets the same answer, whoever
    wrote it. But if most rows of a group are such texts, as in two copies of a document, the group
    and the clusters of these texts are one.

    Args:
        groups: the number of each row's group, from 0.
        texts: the number of each row's text, from 0.
    """
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    group = np.asarray(groups)
    text = np.asarray(texts)
    both = np.stack([group, text])
    _, text_of_pair = np.unique(both, axis=1)
    groups_of_text = np.bincount(text_of_pair)
    shared = groups_of_text[text] > 1
    rows = np.bincount(group)
    shared_rows = np.bincount(group, shared)
    mostly_shared = shared_rows > rows / 2
    # A graph whose nodes are the groups, and after them the texts.
    text_node = len(rows) + text
    nodes = len(rows) + len(groups_of_text)
    tied = shared & mostly_shared[group]
    edges = group[tied], text_node[tied]
    ones = np.ones(np.count_nonzero(tied))
    graph = coo_array((ones, edges), shape=(nodes, nodes))
    _, component = connected_components(graph)
    node = np.where(shared, text_node, group)
    of_row = component[node]
    return numbered(of_row.tolist())


def warnings(split: Split, labels: Sequence[str]) -> list[str]:
    """Return how many rows repeat others, and how many texts have several labels.

    ``labels``: of the task; empty if it has none, so that rows of one text may have other targets.
    """
    texts = split.text_numbers
    rows = len(texts)
    different = len(set(texts))
    if different == rows:
        return []
    repeated = rows - different
    repeats = "repeat others"
    if repeated == 1:
        repeats = "repeats another"
    total = plural(rows, "row")
    sentences = [
        f"{split.name}: {repeated:,} of {total} {repeats}: {different:,} different ones; equal "
        "rows count as one group, which is drawn together"
    ]
    several = _texts_with_several(split) if labels else 0
    if several:
        verb = "has" if several == 1 else "have"
        count = plural(several, "text")
        sentences.append(
            f"{split.name}: {count} {verb} more than one label, so no model can be right on all of "
            "their rows"
        )
    return sentences


def _texts_with_several(split: Split) -> int:
    """Return how many texts have several labels; 0 if rows have none."""
    if split.labels is None:
        return 0
    labels = map(repr, split.labels)
    pairs = set(zip(split.text_numbers, labels, strict=True))
    counts = Counter(text for text, _ in pairs)
    several = [text for text, count in counts.items() if count > 1]
    return len(several)
