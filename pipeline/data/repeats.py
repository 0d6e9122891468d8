"""Eval rows that repeat others or belong together: an interval must not count them as several.

Equal rows are one group. Near duplicates and rows of one source are named: of rows in clusters of
ten, intervals that take each for independent let a quarter of bad candidates pass where 2.5 % are
promised (docs/explanation/accuracy.md). Nothing is grouped by them, because only the user knows
what belongs together.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from typing import Any

from rarefy.pipeline.data import table as table_file
from rarefy.pipeline.data.split import Split, normalized
from rarefy.pipeline.data.table import Source, as_text, is_missing
from rarefy.pipeline.terms.wording import percent, plural

SHINGLE = 3
"""Words in a row of which what two texts share is counted."""
BASE = 1_000_003
"""Of the polynomial that is a shingle's hash, of the numbers of its words."""
WORDS = 200
"""Of a text, at most: near duplicates are alike from the start, and hashes take memory."""
BANDS, DEPTH = 8, 3
"""Hashes of a text: rows whose hashes are equal in one of the bands are compared."""
ALIKE = 0.6
"""The share of shingles that near duplicates have in common (their Jaccard similarity)."""
SHARE = 0.02
"""From this share of rows on, near duplicates are named."""
ROWS = 50_000
"""Rows at most that are compared."""
SOURCES = frozenset(
    {
        *("account", "article", "author", "chat", "client", "conversation", "customer", "dialog"),
        *("dialogue", "doc", "document", "file", "group", "issue", "movie", "page", "patient"),
        *("product", "session", "source", "speaker", "subject", "thread", "ticket", "url", "user"),
        *("video", "writer"),
    }
)
"""Words in the names of columns whose equal values may belong together."""
CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")
PARTING = re.compile(r"[\W_]+")
FEWEST = 20
"""Values of such a column at least: fewer are kinds of rows, which are slices."""
MEAN = 1.5
"""Rows with one value, on average, at least."""


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


def near_duplicates(texts: Sequence[str]) -> list[int]:
    """Return the number of each text's cluster of near duplicates, as that of its first row.

    MinHash (Broder 1997, "On the resemblance and containment of documents") finds rows to compare,
    and their shingles decide. Texts of fewer words than a shingle are never alike.
    """
    import numpy as np

    shingles = _shingles(texts)
    cluster = list(range(len(texts)))
    lengths = np.array([len(some) for some in shingles])
    rows = np.flatnonzero(lengths)
    if not len(rows):
        return cluster
    present = [shingles[row] for row in rows]
    ends = np.cumsum(lengths[rows])
    starts = ends - lengths[rows]
    for hashes in _bands(np.concatenate(present), starts):
        first: dict[int, int] = {}
        for row, value in zip(rows.tolist(), hashes.tolist(), strict=True):
            other = first.setdefault(value, row)
            if cluster[row] != cluster[other] and _alike(shingles[row], shingles[other]):
                _join(cluster, row, other)
    return [_root(cluster, row) for row in cluster]


def _bands(shingles: Any, starts: Any) -> Iterator[Any]:
    """Yield the hash of each text in a band: of the smallest of its shingles in several orders.

    Args:
        shingles: of all texts, one after another.
        starts: the place of each text's first.
    """
    import numpy as np

    generator = np.random.default_rng(0)
    for _ in range(BANDS):
        band = np.zeros(len(starts), np.uint64)
        for factor in generator.integers(2**62, size=DEPTH, dtype=np.uint64):
            odd = 2 * factor + np.uint64(1)
            order = _mixed(shingles * odd)
            smallest = np.minimum.reduceat(order, starts)
            band = _mixed(band + smallest)
        yield band


def grouping_columns(source: Source, used: Collection[str]) -> list[str]:
    """Return what looks like the source of several rows, in words, of columns that are not used."""
    sentences = []
    for name, counted in _values(source, used).items():
        values, rows = len(counted), counted.total()
        if values < FEWEST or rows < MEAN * values:
            continue
        sentences.append(
            f"{source.name}: {rows:,} rows have {values:,} values of the column {name!r}; if those "
            "of one value belong together, as of a user or a document, set data.group: "
            f"{name}, or intervals are too narrow"
        )
    return sentences


def _values(source: Source, used: Collection[str]) -> dict[str, Counter[str]]:
    """Return how often each value occurs, by column, of those whose names are of sources."""
    counts = {}
    with table_file.opened(source) as table:
        for name in table.names:
            if name not in used and _names_a_source(name):
                counts[name] = Counter[str]()
        rows = table.rows(list(counts)) if counts else ()
        for values in rows:
            for counted, value in zip(counts.values(), values, strict=True):
                if isinstance(value, str | int) and not is_missing(value):
                    text = as_text(value)
                    counted[text] += 1
    return counts


def cluster_warnings(split: Split) -> list[str]:
    """Return how many rows of a split without groups are near duplicates of others, if many are."""
    different: dict[int, str] = {}  # equal rows are a group already
    for row, number in enumerate(split.text_numbers[:ROWS]):
        if number not in different:
            pair = split.pairs[row] if split.pairs is not None else ""
            different[number] = f"{split.texts[row]} {pair}"
    texts = list(different.values())
    of_cluster = Counter(near_duplicates(texts))
    sizes = [size for size in of_cluster.values() if size > 1]
    share = sum(sizes) / len(texts)
    if share < SHARE:
        return []
    shown = percent(share)
    count = plural(len(sizes), "cluster")
    largest = max(sizes)
    return [
        f"{split.name}: {shown} of the different rows are near duplicates, in {count} of up to "
        f"{largest}; name what belongs together with data.group, or intervals are too narrow"
    ]


def _names_a_source(name: str) -> bool:
    apart = CAPITAL.sub(" ", name)
    words = PARTING.split(apart.casefold())
    return not SOURCES.isdisjoint(words)


def _shingles(texts: Sequence[str]) -> list[Any]:
    """Return the different shingles of each text as hashes."""
    import numpy as np

    numbers: dict[str, int] = {}
    result = []
    for text in texts:
        words = []
        for word in normalized(text).split(maxsplit=WORDS)[:WORDS]:
            following = len(numbers)
            number = numbers.setdefault(word, following)
            words.append(number)
        ids = np.array(words, np.uint64)
        count = max(0, len(ids) - SHINGLE + 1)
        hashes = np.zeros(count, np.uint64)
        if count:
            for place in range(SHINGLE):
                hashes *= BASE
                hashes += ids[place : place + count]
        different = np.unique(hashes)
        result.append(different)
    return result


def _mixed(values: Any) -> Any:
    """Return 64-bit numbers with their bits mixed, as in SplitMix64."""
    import numpy as np

    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        shifted = values >> np.uint64(shift)
        values = values ^ shifted
        values = values * np.uint64(factor)
    return values ^ (values >> np.uint64(31))


def _alike(one: Any, other: Any) -> bool:
    import numpy as np

    shared = np.intersect1d(one, other, assume_unique=True)
    common = len(shared)
    either = len(one) + len(other) - common
    return common >= ALIKE * either


def _root(cluster: list[int], row: int) -> int:
    while cluster[row] != row:
        row = cluster[row]
    return row


def _join(cluster: list[int], row: int, other: int) -> None:
    """Give two rows' clusters one number, the smaller."""
    roots = [_root(cluster, row), _root(cluster, other)]
    first, second = sorted(roots)
    cluster[second] = first
