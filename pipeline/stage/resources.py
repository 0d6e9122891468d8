"""What a stage will need of the machine: bytes on disk and in memory, as far as they are known.

Sizes are in bytes. A weight, a gradient and each of AdamW's two averages take ``FLOAT`` bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.model.shape import Shape

FLOAT = 4


@dataclass(frozen=True)
class Span:
    """A number of bytes: surely ``least``, and hardly more than ``most``."""

    least: int = 0
    most: int = 0

    def __add__(self, other: Span) -> Span:
        return Span(self.least + other.least, self.most + other.most)

    def __mul__(self, factor: int) -> Span:
        return Span(self.least * factor, self.most * factor)

    def __or__(self, other: Span) -> Span:
        """Return the span of whichever needs more, for what is not needed at the same time."""
        return Span(max(self.least, other.least), max(self.most, other.most))


PROCESS = Span(200_000_000, 700_000_000)
"""A Python process with torch and transformers; most of it is libraries' code."""
UNKNOWN_LENGTH = 3
"""Tokens that a row has at least: one of its own between the special ones."""
TOKENIZED = Span(44, 60)
"""A token of a row in Python lists: an integer of its own and two or three references."""


def weights(shape: Shape, copies: int = 1) -> Span:
    """Return the fp32 weights of a model, some copies of them: 4 · parameters each."""
    size = FLOAT * shape.parameters * copies
    return Span(size if shape.exact else 0, size)


def upto(size: int) -> Span:
    """Return a span that is at most ``size``: what depends on rows that are not known yet."""
    return Span(0, size)


def exactly(size: int) -> Span:
    return Span(size, size)


@dataclass(frozen=True)
class Workload:
    """What is known of a stage's work before it runs.

    ``shape``       the input's; of a bundle, that of the checkpoint it was made from
    ``references``  those of the other artifacts that it is given, by step id, where they are known
    ``rows``        rows of each split of the recipe
    ``tokens``      tokens of each split, cut to ``max_length``
    ``longest``     tokens of each split's longest row, at most
    ``labels``      how many
    ``providers``   how many execution providers the recipe's targets have
    ``base``        the recipe's folder
    """

    shape: Shape
    references: Mapping[str, Shape] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    tokens: Mapping[str, Span] = field(default_factory=dict)
    longest: Mapping[str, int] = field(default_factory=dict)
    labels: int = 2
    providers: int = 1
    base: Path = Path()

    def tokens_of(self, splits: frozenset[str]) -> Span:
        """Return the tokens of some splits together."""
        return sum((self.tokens[name] for name in sorted(splits & self.tokens.keys())), Span())

    def longest_of(self, splits: frozenset[str]) -> int:
        """Return the tokens of the longest row of some splits, at most."""
        return max((self.longest[name] for name in splits & self.longest.keys()), default=0)

    def rows_of(self, splits: frozenset[str]) -> int:
        """Return the rows of some splits together."""
        return sum(self.rows[name] for name in splits & self.rows.keys())


@dataclass(frozen=True)
class Resources:
    """What a stage needs; None for what it does not say.

    ``disk``    at the peak: unfinished work and output together
    ``memory``  at the peak, of all its processes; on a GPU the device's memory is part of it
    ``shape``   the model that it gives
    ``effort``  what its time grows with, in any unit: two runs of a stage are compared by it
    """

    disk: Span | None = None
    memory: Span | None = None
    shape: Shape | None = None
    effort: float | None = None
