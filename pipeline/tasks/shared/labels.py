"""The names of labels: their order, and those that a model does not have."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from rarefy.pipeline.data.table import Source
from rarefy.pipeline.terms.errors import DataError

MOST = 1000
"""With more labels, the column is hardly one of labels."""
_INTEGER = re.compile(r"-?[0-9]+")


def ordered(names: Iterable[str], source: Source) -> list[str]:
    """Return labels in a stable order: integers by value, names alphabetically.

    Raises DataError if there are more than ``MOST``.
    """
    ordering = sorted(set(names))
    if all(_INTEGER.fullmatch(name) for name in ordering):
        ordering.sort(key=int)
    if len(ordering) > MOST:
        raise DataError(
            f"{source.reference}: train has {len(ordering)} different labels; check 'data.label'"
        )
    return ordering


def places(
    found: Collection[str], names: Sequence[str], source: Source, noun: str = "label"
) -> dict[str, int]:
    """Return the place of each of ``names``, which is that of its output.

    ``found``: the labels of a split. Raises DataError for those that are not in ``names``: train or
    the model does not have them, as ``source`` says.
    """
    unseen = sorted(set(found) - set(names))
    if unseen:
        shown = ", ".join(map(repr, unseen[:3]))
        raise DataError(
            f"{source.reference}: {source.name} has the {noun} {shown}, which does not occur "
            f"in {source.labels_of}"
        )
    return {name: place for place, name in enumerate(names)}
