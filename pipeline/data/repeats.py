"""Eval rows that repeat others: an interval must not count one answer a hundred times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.terms.wording import plural


def numbered(keys: Iterable[Hashable]) -> list[int]:
    """Return a number for each key, from 0 in their order; equal keys have the same."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]


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

    group, text = np.asarray(groups), np.asarray(texts)
    pairs = np.unique(np.stack([group, text]), axis=1)
    shared = np.bincount(pairs[1])[text] > 1
    group_count, text_count = int(group.max()) + 1, int(text.max()) + 1
    most = np.bincount(group, shared) > np.bincount(group) / 2
    tied = shared & most[group]
    nodes = group_count + text_count
    edges = group[tied], group_count + text[tied]
    ones = np.ones(int(tied.sum()))
    _, component = connected_components(coo_array((ones, edges), shape=(nodes, nodes)))
    node = np.where(shared, group_count + text, group)
    return numbered(component[node].tolist())


def warnings(split: Split, labels: Sequence[str]) -> list[str]:
    """Return how many rows repeat others, and how many texts have several labels.

    ``labels``: of the task; empty if it has none, so that rows of one text may have other targets.
    """
    texts = split.text_numbers
    rows, different = len(texts), len(set(texts))
    if different == rows:
        return []
    repeated = rows - different
    verb, others = ("repeats", "another") if repeated == 1 else ("repeat", "others")
    sentences = [
        f"{split.name}: {repeated:,} of {plural(rows, 'row')} {verb} {others}: {different:,} "
        "different ones; equal rows count as one group, which is drawn together"
    ]
    if labels and split.labels is not None:
        pairs = {(text, repr(label)) for text, label in zip(texts, split.labels, strict=True)}
        several = sum(count > 1 for count in Counter(text for text, _ in pairs).values())
        if several:
            verb = "has" if several == 1 else "have"
            sentences.append(
                f"{split.name}: {plural(several, 'text')} {verb} more than one label, so no model "
                "can be right on all of their rows"
            )
    return sentences
