"""Eval rows that belong together although ``data.group`` does not say so: near duplicates, sources.

Of rows in clusters of ten, intervals that take each for independent let a quarter of bad candidates
pass where 2.5 % are promised (docs/measurement.md). What looks like clusters is named; nothing is
grouped by it, because only the user knows what belongs together.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from rarefy.pipeline.data import table as table_file
from rarefy.pipeline.data.duplicates import normalized
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.data.table import Source
from rarefy.pipeline.data.values import as_text, is_missing
from rarefy.pipeline.terms.wording import percent, plural

SHINGLE = 3
"""Words in a row of which what two texts share is counted."""
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
FEWEST = 20
"""Values of such a column at least: fewer are kinds of rows, which are slices."""
MEAN = 1.5
"""Rows with one value, on average, at least."""


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
    flat = np.concatenate([shingles[row] for row in rows])
    starts = np.concatenate([[0], np.cumsum(lengths[rows])[:-1]])
    generator = np.random.default_rng(0)
    for _ in range(BANDS):
        band = np.zeros(len(rows), np.uint64)
        for odd in generator.integers(1, 2**63, DEPTH, dtype=np.uint64) | np.uint64(1):
            smallest = np.minimum.reduceat(_mixed(flat * odd), starts)
            band = _mixed(band * np.uint64(31) + smallest)
        first: dict[int, int] = {}
        for row, value in zip(rows.tolist(), band.tolist(), strict=True):
            other = first.setdefault(value, row)
            if cluster[row] != cluster[other] and _alike(shingles[row], shingles[other]):
                _join(cluster, row, other)
    return [_root(cluster, row) for row in range(len(texts))]


def columns(source: Source, used: Collection[str]) -> list[str]:
    """Return what looks like the source of several rows, in words, of columns that are not used."""
    with table_file.opened(source) as table:
        names = [name for name in table.names if name not in used and _names_a_source(name)]
        counts: dict[str, Counter[str]] = {name: Counter() for name in names}
        for values in table.rows(names) if names else ():
            for name, value in zip(names, values, strict=True):
                if not is_missing(value) and isinstance(value, str | int):
                    counts[name][as_text(value)] += 1
    sentences = []
    for name, counted in counts.items():
        if len(counted) >= FEWEST and counted.total() >= MEAN * len(counted):
            sentences.append(
                f"{source.name}: {counted.total():,} rows have {len(counted):,} values of the "
                f"column {name!r}; if those of one value belong together, as of a user or a "
                f"document, set data.group: {name}, or intervals are too narrow"
            )
    return sentences


def warnings(split: Split) -> list[str]:
    """Return how many rows of a split without groups are near duplicates of others, if many are."""
    pairs = split.pairs or [""] * len(split)
    texts = [f"{text} {pair}" for text, pair in zip(split.texts, pairs, strict=True)][:ROWS]
    different: dict[int, int] = {}  # equal rows are a group already
    for row, number in enumerate(split.text_numbers[:ROWS]):
        different.setdefault(number, row)
    of_cluster = Counter(near_duplicates([texts[row] for row in different.values()]))
    sizes = [size for size in of_cluster.values() if size > 1]
    share = sum(sizes) / len(different)
    if share < SHARE:
        return []
    return [
        f"{split.name}: {percent(share)} of the different rows are near duplicates, in "
        f"{plural(len(sizes), 'cluster')} of up to {max(sizes)}; name what belongs together with "
        "data.group, or intervals are too narrow"
    ]


def _names_a_source(name: str) -> bool:
    parts = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold()
    return not SOURCES.isdisjoint(re.split(r"[\W_]+", parts))


def _shingles(texts: Sequence[str]) -> list[Any]:
    """Return the different shingles of each text as hashes."""
    import numpy as np

    numbers: dict[str, int] = {}
    found = []
    for text in texts:
        words = [numbers.setdefault(word, len(numbers) + 1) for word in normalized(text).split()]
        ids = np.array(words, np.uint64)
        count = len(ids) - SHINGLE + 1
        hashes = np.zeros(max(count, 0), np.uint64)
        for place in range(SHINGLE if count > 0 else 0):
            hashes = hashes * np.uint64(1_000_003) + ids[place : place + count]
        found.append(np.unique(hashes))
    return found


def _mixed(values: Any) -> Any:
    """Return 64-bit numbers with their bits mixed, as in SplitMix64."""
    import numpy as np

    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _alike(one: Any, other: Any) -> bool:
    import numpy as np

    common = len(np.intersect1d(one, other, assume_unique=True))
    return common >= ALIKE * (len(one) + len(other) - common)


def _root(cluster: list[int], row: int) -> int:
    while cluster[row] != row:
        row = cluster[row]
    return row


def _join(cluster: list[int], row: int, other: int) -> None:
    """Give two rows' clusters one number, the smaller."""
    first, second = sorted((_root(cluster, row), _root(cluster, other)))
    cluster[second] = first
